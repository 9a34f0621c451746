use jiff::Timestamp;

use super::*;

const QUARTER: u64 = 900_000;

fn ms(text: &str) -> u64 {
    text.parse::<Timestamp>().unwrap().as_millisecond().try_into().unwrap()
}

fn written(text: &str) -> Written {
    toml::from_str(text).unwrap()
}

fn ics(events: &str) -> Result<Calendar, String> {
    let text = format!("BEGIN:VCALENDAR\r\nVERSION:2.0\r\n{events}\r\nEND:VCALENDAR\r\n");
    let calendar = written("name = \"c\"\nfile = \"c.ics\"\ntime_zone = \"Europe/Berlin\"");
    Calendar::new(calendar, Some(&text)).map_err(|error| error.to_string())
}

fn event(lines: &str) -> Calendar {
    ics(&format!("BEGIN:VEVENT\r\nUID:1\r\n{lines}\r\nEND:VEVENT")).unwrap()
}

/// True if the bucket that begins then is covered.
fn on(calendar: &Calendar, time: &str) -> bool {
    calendar.is_on(ms(time), ms(time) + QUARTER)
}

#[test]
fn a_weekly_event_keeps_its_local_time_over_changes_of_the_clock() {
    let calendar = event(
        "DTSTART;TZID=Europe/Berlin:20260103T220000\r\nDTEND;TZID=Europe/Berlin:20260104T040000\r\nRRULE:FREQ=WEEKLY",
    );
    // Saturdays at 22:00: 21:00 UTC in winter, 20:00 UTC in summer.
    assert!(on(&calendar, "2026-01-03T21:00:00Z") && on(&calendar, "2026-01-10T21:00:00Z"));
    assert!(!on(&calendar, "2026-01-10T20:45:00Z") && on(&calendar, "2026-01-11T02:45:00Z"));
    assert!(!on(&calendar, "2026-01-11T03:00:00Z"));
    assert!(on(&calendar, "2026-07-04T20:00:00Z") && !on(&calendar, "2026-07-04T19:45:00Z"));
    // The night of the change is an hour shorter on the wall, six hours long all the same.
    assert!(on(&calendar, "2026-03-28T21:00:00Z") && on(&calendar, "2026-03-29T02:45:00Z"));
    assert!(!on(&calendar, "2026-03-29T03:00:00Z"));
    assert!(!on(&calendar, "2025-12-27T21:00:00Z"), "not before it begins");
}

#[test]
fn occurrences_are_left_out_moved_cancelled_and_added() {
    let daily =
        "DTSTART;TZID=Europe/Berlin:20260601T020000\r\nDURATION:PT1H\r\nRRULE:FREQ=DAILY;UNTIL=20260610T235959Z";
    let calendar = ics(&format!(
        "BEGIN:VEVENT\r\nUID:1\r\n{daily}\r\nEXDATE;TZID=Europe/Berlin:20260602T020000,20260603T020000\r\n\
         RDATE;TZID=Europe/Berlin:20260620T020000\r\nEND:VEVENT\r\n\
         BEGIN:VEVENT\r\nUID:1\r\nRECURRENCE-ID;TZID=Europe/Berlin:20260604T020000\r\n\
         DTSTART;TZID=Europe/Berlin:20260604T120000\r\nDURATION:PT1H\r\nEND:VEVENT\r\n\
         BEGIN:VEVENT\r\nUID:1\r\nRECURRENCE-ID:20260605T000000Z\r\nSTATUS:CANCELLED\r\n\
         DTSTART;TZID=Europe/Berlin:20260605T020000\r\nDURATION:PT1H\r\nEND:VEVENT"
    ))
    .unwrap();
    let days: Vec<u32> = (1..=30).filter(|day| on(&calendar, &format!("2026-06-{day:02}T00:00:00Z"))).collect();
    assert_eq!(days, [1, 6, 7, 8, 9, 10, 20]);
    assert!(on(&calendar, "2026-06-04T10:00:00Z"), "it was moved to noon");
}

#[test]
fn whole_days_are_those_of_the_zone() {
    let calendar = event("DTSTART;VALUE=DATE:20261224\r\nDTEND;VALUE=DATE:20261227\r\nRRULE:FREQ=YEARLY");
    assert!(on(&calendar, "2026-12-23T23:00:00Z") && !on(&calendar, "2026-12-23T22:45:00Z"));
    assert!(on(&calendar, "2031-12-26T22:45:00Z") && !on(&calendar, "2031-12-26T23:00:00Z"));
    let calendar = event("DTSTART;VALUE=DATE:20261224");
    assert!(on(&calendar, "2026-12-24T22:45:00Z") && !on(&calendar, "2026-12-24T23:00:00Z"));
    // The day on which clocks are put forward has 23 hours.
    let calendar = event("DTSTART;VALUE=DATE:20260329");
    assert!(on(&calendar, "2026-03-29T21:45:00Z") && !on(&calendar, "2026-03-29T22:00:00Z"));
}

#[test]
fn a_time_that_the_clocks_leave_out_takes_place_all_the_same() {
    let calendar = event("DTSTART;TZID=Europe/Berlin:20260301T023000\r\nDURATION:PT15M\r\nRRULE:FREQ=DAILY");
    assert!(on(&calendar, "2026-03-29T01:30:00Z"), "03:30 in summer time");
    assert!(on(&calendar, "2026-10-25T00:30:00Z") && !on(&calendar, "2026-10-25T01:30:00Z"), "the first of two");
}

#[test]
fn the_zone_of_the_file_and_other_components_are_understood() {
    let text = "X-WR-TIMEZONE:America/New_York\r\nBEGIN:VTIMEZONE\r\nTZID:America/New_York\r\nBEGIN:STANDARD\r\n\
                DTSTART:19701101T020000\r\nEND:STANDARD\r\nEND:VTIMEZONE\r\nBEGIN:VEVENT\r\nDTSTART:20260105T090000\r\n\
                DURATION:PT1H\r\nBEGIN:VALARM\r\nTRIGGER:-PT15M\r\nEND:VALARM\r\nEND:VEVENT";
    let calendar = ics(text).unwrap();
    assert!(on(&calendar, "2026-01-05T14:00:00Z") && !on(&calendar, "2026-01-05T15:00:00Z"));
}

#[test]
fn what_does_not_fit_is_named_with_its_line() {
    let error = |events: &str| ics(events).unwrap_err();
    let of = |lines: &str| error(&format!("BEGIN:VEVENT\r\n{lines}\r\nEND:VEVENT"));
    assert!(of("SUMMARY:x").contains("c.ics: line 4: the event has no DTSTART"));
    assert!(of("DTSTART:tomorrow").contains("line 4: DTSTART \"tomorrow\" is no date or time"));
    assert!(of("DTSTART;TZID=Mars/Base:20260101T000000").contains("line 4: \"Mars/Base\" is no time zone"));
    assert!(of("DTSTART:20260101T000000\r\nRRULE:FREQ=SECONDLY").contains("line 5: RRULE"));
    assert!(of("DTSTART:20260102T000000\r\nDTEND:20260101T000000").contains("line 5: the event ends before it starts"));
    assert!(of("DTSTART:20260102T000000\r\nDURATION:P400D").contains("lasts longer than 366 days"));
    assert!(error("BEGIN:VEVENT").contains("END:VCALENDAR ends nothing"));
    assert!(error("nonsense").contains("line 3: expected NAME:VALUE"));
    assert!(error("X-A:b").contains("has no event"));
    let no = Calendar::new(written("name = \"c\"\nfile = \"c.ics\""), Some("A:b\n")).unwrap_err();
    assert!(no.to_string().contains("calendar \"c\": c.ics: is no iCalendar"), "{no}");
}

fn inline(rest: &str) -> Calendar {
    let text = format!("name = \"c\"\n{rest}\nevents = [{{ start = \"2026-01-05T02:00\", duration = \"PT1H\" }}]");
    Calendar::new(written(&text), None).unwrap()
}

fn skip(calendar: Calendar, job: &str, site: Option<&str>, subject: &Subject) -> Skip {
    let calendars = Calendars::new(vec![calendar]);
    let start = ms("2026-01-05T02:45:00Z");
    let on = calendars.on(start, start + QUARTER);
    let job = Job::built_in().into_iter().find(|known| known.id == job).unwrap();
    let site: Option<SiteName> = site.map(|site| site.parse().unwrap());
    Quiet::of(&on, &job).skip(site.as_ref(), subject)
}

#[test]
fn a_calendar_is_about_the_jobs_sites_and_hosts_that_it_names() {
    let (host, by_host) = (Subject::Address("10.1.0.7".parse().unwrap()), "high_bytes_out_by_host");
    let both = Skip { result: true, model_update: true };
    let of = |rest: &str| skip(inline(rest), by_host, Some("berlin"), &host);
    assert_eq!(of(""), both);
    assert_eq!(of("effect = \"skip_result\""), Skip { model_update: false, ..both });
    assert_eq!(of("effect = \"skip_model_update\""), Skip { result: false, ..both });
    for yes in
        ["jobs = [\"high_*_by_host\"]", "groups = [\"host\"]", "groups = [\"bytes_out\"]", "sites = [\"berlin\"]"]
    {
        assert_eq!(of(yes), both, "{yes}");
    }
    for yes in ["hosts = [\"10.1.0.0/16\"]", "hosts = [\"10.1.*\"]", "hosts = [\"web\", \"10.1.0.7\"]"] {
        assert_eq!(of(yes), both, "{yes}");
    }
    for no in ["jobs = [\"*_by_site\"]", "groups = [\"global\"]", "sites = [\"paris\"]", "hosts = [\"10.2.0.0/16\"]"] {
        assert_eq!(of(no), Skip::default(), "{no}");
    }
    let global = "high_count_network_events";
    assert_eq!(skip(inline(""), global, None, &Subject::Site), both);
    assert_eq!(skip(inline("sites = [\"berlin\"]"), global, None, &Subject::Site), Skip::default());
    assert_eq!(skip(inline("hosts = [\"10.0.0.0/8\"]"), global, None, &Subject::Site), Skip::default());
}

#[test]
fn an_event_of_the_configuration_comes_back_too() {
    let text = "name = \"c\"\ntime_zone = \"Europe/Berlin\"\n[[events]]\nstart = \"2026-01-05T02:00\"\nend = \"2026-01-05T03:00\"\n\
                rrule = \"FREQ=DAILY;COUNT=3\"\nexdates = [\"2026-01-06\"]";
    let calendar = Calendar::new(written(text), None).unwrap();
    let days: Vec<u32> = (4..=10).filter(|day| on(&calendar, &format!("2026-01-{day:02}T01:00:00Z"))).collect();
    assert_eq!(days, [5, 7]);
    let wrong = text.replace("2026-01-05T03:00", "later");
    let wrong = Calendar::new(written(&wrong), None).unwrap_err().to_string();
    assert!(wrong.contains("calendar \"c\": event 1: DTEND \"later\" is no date or time"), "{wrong}");
}
