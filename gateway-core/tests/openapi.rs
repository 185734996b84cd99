//! The checked-in description of REST is the one that is served.
#![cfg(feature = "webhooks")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use std::collections::HashSet;

use gateway_core::RestApi;
use serde_json::Value;

const PATH: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/openapi.json");

/// `UPDATE_OPENAPI=1 cargo test -p gateway-core --test openapi` writes the file anew.
#[test]
fn docs_openapi_json_says_what_the_calls_are() {
    let now = RestApi::openapi() + "\n";
    if std::env::var_os("UPDATE_OPENAPI").is_some() {
        std::fs::write(PATH, &now).expect("docs/openapi.json is written");
    }
    let checked_in = std::fs::read_to_string(PATH).unwrap_or_default();
    assert!(
        checked_in == now,
        "docs/openapi.json is not what the calls are: UPDATE_OPENAPI=1 cargo test -p gateway-core --test openapi"
    );
}

#[test]
fn every_call_has_a_name_a_summary_a_tag_and_a_way_to_fail() {
    let api: Value = serde_json::from_str(&RestApi::openapi()).expect("JSON");
    assert_eq!(api["openapi"], "3.1.0");
    let tags: HashSet<&str> =
        api["tags"].as_array().unwrap().iter().map(|tag| tag["name"].as_str().unwrap()).collect();
    let mut names = HashSet::new();
    for (path, item) in api["paths"].as_object().unwrap() {
        assert!(path.starts_with("/api/v1/"), "{path}");
        for (method, call) in item.as_object().unwrap() {
            let name = call["operationId"].as_str().unwrap_or_default();
            assert!(
                names.insert(name.to_owned()),
                "{method} {path}: {name} is another call's name"
            );
            assert!(call["summary"].is_string(), "{name} has no summary");
            let tag = call["tags"][0].as_str().unwrap_or_default();
            assert!(tags.contains(tag), "{name}: the tag {tag:?} is not described");
            assert_eq!(call["responses"]["default"]["$ref"], "#/components/responses/Problem");
            assert!(call["security"].is_array(), "{name} does not say who may");
        }
    }
}
