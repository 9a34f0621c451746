//! The demo finds what it stages.

use crate::program::run;

#[test]
fn one_seed_comes_out_right() {
    let demo = run(&["demo", "--exit", "--seed", "1"]);
    assert_eq!(demo.code, 0, "{}", demo.err);
    assert!(demo.out.contains("5 of 5 staged incidents came out right"), "{}", demo.out);
    for line in
        ["flood", "exfiltration", "port scan", "host scan", "backup", "not alerted, as it should be", "other alert"]
    {
        assert!(demo.out.contains(line), "{line} is not in\n{}", demo.out);
    }
    assert_eq!(demo.err, "");
    assert!(!demo.out.contains('\u{1b}'), "no colours where no terminal is");
}
