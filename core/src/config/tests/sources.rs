//! Files that cannot be read, and sources of a program's own.

use serde_json::json;

use super::*;

#[test]
fn ml_cfg_8_files_that_cannot_be_read_are_named() {
    let big = format!("a: {}", "x".repeat(1 << 20));
    for (name, text, expected) in [
        ("c.ini", "", "unknown kind of file"),
        ("c.yaml", big.as_str(), "is larger than"),
        ("c.yaml", "a: [", "line 2, column 1"),
        ("c.yaml", "- a\n", "expected a table of keys"),
    ] {
        let error = load_with(name, text, &[]).unwrap_err().to_string();
        assert!(error.contains(name) && error.contains(expected), "{error}");
    }
    let error = load::<Config>("/nowhere/c.yaml", "CQI").unwrap_err().to_string();
    assert!(error.contains("/nowhere/c.yaml: no such file"), "{error}");
    assert!(Loader::new().file("/").load::<Config>().is_err());
    assert_eq!(
        load_with("c.yaml", "\u{feff}service_name: bom\r\n", &[])
            .unwrap()
            .value
            .service_name,
        "bom"
    );
}

#[test]
fn ml_cfg_2_own_sources_take_part_and_equal_priorities_are_refused() {
    #[derive(Debug)]
    struct Store(i32);
    impl Source for Store {
        fn name(&self) -> &str {
            "store"
        }
        fn priority(&self) -> i32 {
            self.0
        }
        fn read(&self, keys: &Keys, settings: &mut Settings) {
            settings.set_table(keys, &json!({"service_name": "stored"}), "store:/cfg");
        }
    }
    let loaded = Loader::new().source(Store(250)).load::<Config>().unwrap();
    assert_eq!(
        (loaded.value.service_name.as_str(), loaded.origin("service_name")),
        ("stored", "store:/cfg")
    );
    let error = Loader::new()
        .source(Store(300))
        .env_prefix("CQI")
        .load::<Config>()
        .unwrap_err();
    assert!(error.to_string().contains("same priority"), "{error}");
    assert!(Loader::new().env_prefix("cqi").load::<Config>().is_err());
    assert!(
        Loader::new()
            .flag("service_nam", "x")
            .load::<Config>()
            .unwrap_err()
            .to_string()
            .contains("did you mean")
    );
}
