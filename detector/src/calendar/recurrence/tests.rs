use proptest::prelude::*;

use super::*;

fn date(text: &str) -> Date {
    text.parse().unwrap()
}

fn rule(first: &str, text: &str) -> (Date, Recurrence) {
    let until = |text: &str| Some(Until::Date(date(&format!("{}-{}-{}", &text[..4], &text[4..6], &text[6..8]))));
    let mut rule = Recurrence::parse(text, until).unwrap();
    let first = date(first);
    rule.settle(first);
    (first, rule)
}

/// The days on which it begins within fifteen years, as "1997-09-02 09-03 … 1998-01-01".
fn days(first: &str, text: &str, most: usize) -> String {
    let (first, rule) = rule(first, text);
    let mut year = 0;
    let days = rule.dates(first, first, first.saturating_add(15.years())).into_iter().take(most).map(|date| {
        let month_and_day = format!("{:02}-{:02}", date.month(), date.day());
        let new = std::mem::replace(&mut year, date.year()) != date.year();
        if new { format!("{}-{month_and_day}", date.year()) } else { month_and_day }
    });
    days.collect::<Vec<_>>().join(" ")
}

/// The cases of RFC 5545, section 3.8.5.3.
#[test]
fn as_the_standard_says() {
    let cases = [
        ("1997-09-02", "FREQ=DAILY;COUNT=4", "1997-09-02 09-03 09-04 09-05"),
        ("1997-09-02", "FREQ=DAILY;UNTIL=19970904", "1997-09-02 09-03 09-04"),
        ("1997-09-02", "FREQ=DAILY;INTERVAL=10;COUNT=5", "1997-09-02 09-12 09-22 10-02 10-12"),
        ("1998-01-01", "FREQ=YEARLY;BYMONTH=1;BYDAY=FR;COUNT=6", "1998-01-02 01-09 01-16 01-23 01-30 1999-01-01"),
        ("1997-09-02", "FREQ=WEEKLY;INTERVAL=2;WKST=SU;COUNT=4", "1997-09-02 09-16 09-30 10-14"),
        ("1997-09-02", "FREQ=WEEKLY;COUNT=4;WKST=SU;BYDAY=TU,TH", "1997-09-02 09-04 09-09 09-11"),
        ("1997-08-05", "FREQ=WEEKLY;INTERVAL=2;COUNT=4;BYDAY=TU,SU;WKST=MO", "1997-08-05 08-10 08-19 08-24"),
        ("1997-08-05", "FREQ=WEEKLY;INTERVAL=2;COUNT=4;BYDAY=TU,SU;WKST=SU", "1997-08-05 08-17 08-19 08-31"),
        ("1997-09-05", "FREQ=MONTHLY;COUNT=6;BYDAY=1FR", "1997-09-05 10-03 11-07 12-05 1998-01-02 02-06"),
        ("1997-09-07", "FREQ=MONTHLY;INTERVAL=2;COUNT=5;BYDAY=1SU,-1SU", "1997-09-07 09-28 11-02 11-30 1998-01-04"),
        ("1997-09-22", "FREQ=MONTHLY;COUNT=6;BYDAY=-2MO", "1997-09-22 10-20 11-17 12-22 1998-01-19 02-16"),
        ("1997-09-28", "FREQ=MONTHLY;BYMONTHDAY=-3;COUNT=6", "1997-09-28 10-29 11-28 12-29 1998-01-29 02-26"),
        ("1997-09-10", "FREQ=MONTHLY;INTERVAL=18;COUNT=4;BYMONTHDAY=10,11,12", "1997-09-10 09-11 09-12 1999-03-10"),
        ("2007-01-15", "FREQ=MONTHLY;BYMONTHDAY=15,30;COUNT=5", "2007-01-15 01-30 02-15 03-15 03-30"),
        ("1997-09-13", "FREQ=MONTHLY;BYDAY=SA;BYMONTHDAY=7,8,9,10,11,12,13;COUNT=4", "1997-09-13 10-11 11-08 12-13"),
        ("1998-02-13", "FREQ=MONTHLY;BYDAY=FR;BYMONTHDAY=13;COUNT=5", "1998-02-13 03-13 11-13 1999-08-13 2000-10-13"),
        ("1997-06-10", "FREQ=YEARLY;COUNT=4;BYMONTH=6,7", "1997-06-10 07-10 1998-06-10 07-10"),
        ("1997-03-10", "FREQ=YEARLY;INTERVAL=2;COUNT=4;BYMONTH=1,2,3", "1997-03-10 1999-01-10 02-10 03-10"),
        ("1997-05-19", "FREQ=YEARLY;BYDAY=20MO;COUNT=3", "1997-05-19 1998-05-18 1999-05-17"),
        (
            "1996-11-05",
            "FREQ=YEARLY;INTERVAL=4;BYMONTH=11;BYDAY=TU;BYMONTHDAY=2,3,4,5,6,7,8;COUNT=3",
            "1996-11-05 2000-11-07 2004-11-02",
        ),
        ("1997-09-04", "FREQ=MONTHLY;COUNT=3;BYDAY=TU,WE,TH;BYSETPOS=3", "1997-09-04 10-07 11-06"),
        ("1997-09-29", "FREQ=MONTHLY;BYDAY=MO,TU,WE,TH,FR;BYSETPOS=-2;COUNT=4", "1997-09-29 10-30 11-27 12-30"),
        ("2024-02-29", "FREQ=YEARLY;COUNT=3", "2024-02-29 2028-02-29 2032-02-29"),
        ("2026-01-31", "FREQ=MONTHLY;COUNT=4", "2026-01-31 03-31 05-31 07-31"),
    ];
    for (first, text, expected) in cases {
        assert_eq!(days(first, text, 100), expected, "{first} {text}");
    }
}

#[test]
fn what_is_not_supported_is_named() {
    let error = |text: &str| Recurrence::parse(text, |_| None).unwrap_err();
    assert!(error("FREQ=HOURLY").contains("\"FREQ=HOURLY\": expected DAILY, WEEKLY, MONTHLY or YEARLY"));
    assert!(error("FREQ=DAILY;BYHOUR=3").contains("\"BYHOUR=3\" is not supported"));
    assert!(error("INTERVAL=2").contains("no FREQ"));
    assert!(error("FREQ=DAILY;INTERVAL=0").contains("1 to 1000"));
    assert!(error("FREQ=DAILY;BYMONTHDAY=0").contains("±1 to ±31"));
    assert!(error("FREQ=WEEKLY;BYDAY=1MO").contains("BYDAY with a number"));
    assert!(error("FREQ=DAILY;UNTIL=soon").contains("a date or a time"));
    assert!(error("FREQ=DAILY;BYDAY=XX").contains("days as MO"));
}

#[test]
fn a_rule_that_never_happens_ends() {
    assert_eq!(days("2026-01-01", "FREQ=YEARLY;BYMONTH=2;BYMONTHDAY=30;COUNT=3", 10), "");
}

proptest! {
    /// Looking at any days by themselves gives what following the rule from its beginning gives.
    #[test]
    fn any_days_can_be_looked_at_by_themselves(
        frequency in 0usize..4,
        interval in 1i64..5,
        shape in 0usize..4,
        end in 0usize..3,
        begin in 0i64..400,
        from in 0i64..3000,
        length in 0i64..120,
    ) {
        let shapes: &[&str] = match frequency {
            0 => &["", ";BYDAY=MO,FR", ";BYMONTH=3,10", ";BYMONTHDAY=-1,15"],
            1 => &["", ";BYDAY=SU,WE", ";BYDAY=SA;WKST=SU", ";BYMONTH=3"],
            2 => &["", ";BYDAY=-1FR", ";BYMONTHDAY=31", ";BYDAY=MO,TU;BYSETPOS=2"],
            _ => &["", ";BYMONTH=2;BYDAY=1MO", ";BYDAY=20MO", ";BYMONTHDAY=29"],
        };
        let name = ["DAILY", "WEEKLY", "MONTHLY", "YEARLY"][frequency];
        let end = ["", ";COUNT=7", ";UNTIL=20281231"][end];
        let text = format!("FREQ={name};INTERVAL={interval}{}{end}", shapes[shape]);
        let start = date("2024-01-01").saturating_add(begin.days());
        let (first, rule) = rule(&start.to_string(), &text);
        let followed = rule.dates(first, first, date("2034-01-01"));
        prop_assert!(followed.is_sorted() && followed.iter().all(|date| *date >= first));
        let from = date("2024-01-01").saturating_add(from.days());
        let to = from.saturating_add(length.days());
        let expected: Vec<Date> = followed.into_iter().filter(|date| (from..=to).contains(date)).collect();
        prop_assert_eq!(rule.dates(first, from, to), expected, "{}", text);
    }
}
