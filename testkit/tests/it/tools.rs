//! The small tools, and that the runner tells what went wrong.

use std::time::Duration;

use cqi_testkit::{
    conformance::{Profile, checker, run},
    eventually, unique,
};
use tokio::time::Instant;

use crate::harness::Check;

#[tokio::test(start_paused = true)]
async fn eventually_fails_with_what_was_last_seen() {
    let start = Instant::now();
    let mut looks = 0;
    let failure = eventually("the moon", Duration::from_secs(2), || {
        looks += 1;
        std::future::ready(Err::<(), _>("only clouds"))
    })
    .await
    .unwrap_err();
    assert!(failure.message().contains("the moon") && failure.message().contains("only clouds"));
    assert!(start.elapsed() >= Duration::from_secs(2));
    assert!(looks > 2);
}

#[test]
fn unique_names_fit_every_grammar() {
    let name = unique("orders");
    assert!(cqi_core::name::topic_name(&name).is_ok());
    assert!(cqi_core::name::Group::parse(&name).is_ok());
    assert_ne!(name, unique("orders"));
}

#[test]
fn the_profile_is_what_it_says() {
    assert!(Profile::paused().quick().quick);
    assert_eq!(
        Profile::real().with_limit(Duration::from_secs(1)).limit,
        Duration::from_secs(1)
    );
}

#[test]
fn a_panic_in_a_case_is_a_failure_that_names_it() {
    let cases = checker::cases();
    let mut mock = cqi_testkit::mocks::MockChecker::new();
    mock.expect_name().return_const("mock".to_owned());
    mock.expect_check().returning(|| panic!("a bug of the adapter"));
    let mut mock = Some(mock);
    let harness = Check::quick(|_| std::sync::Arc::new(mock.take().unwrap()));
    let case = cases
        .iter()
        .find(|case| case.name == "a_working_dependency_is_up")
        .unwrap();
    let failure = run(Profile::paused(), &harness, case).unwrap_err();
    assert!(failure.message().contains("a bug of the adapter"), "{failure}");
}
