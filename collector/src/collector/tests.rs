use super::*;

fn files(expected: Expected) -> SourceOptions {
    SourceOptions::Files { paths: Vec::new(), expected }
}

fn listener() -> SourceOptions {
    SourceOptions::Listen { address: ([127, 0, 0, 1], 0).into(), receive_buffer: 4_096 }
}

#[test]
fn sources_that_one_task_cannot_serve_are_refused_not_forgotten() {
    assert!(of_one_kind(&[]));
    assert!(of_one_kind(&[listener(), listener()]));
    assert!(of_one_kind(&[files(Expected::Zeek), files(Expected::Zeek)]));
    assert!(!of_one_kind(&[files(Expected::Zeek), files(Expected::Ecs)]));
    assert!(!of_one_kind(&[files(Expected::Auto), listener()]));
}
