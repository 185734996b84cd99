//! REST under a fuzzer that knows its description: whatever is sent, the answer is one that is described, and never
//! a failure of the server.

#![allow(clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use std::path::Path;
use std::process::Command;

use common::server::Server;

#[test]
#[ignore = "needs schemathesis in .tools"]
fn a_fuzzer_finds_no_answer_that_is_not_described() {
    let server = Server::start(&["--rest-rate", "0", "--admin", "alice"]);
    server.create_group("alice", "ops", &["bob"]);
    let tools = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../.tools/python/bin/schemathesis");
    let tools = tools.canonicalize().unwrap_or(tools);
    let fuzzed = Command::new(&tools)
        // It writes a cache where it is run.
        .current_dir(server.data())
        .env("SCHEMATHESIS_HOOKS", "ndjson")
        .env("PYTHONPATH", concat!(env!("CARGO_MANIFEST_DIR"), "/tests/clients"))
        .args(["run", &format!("http://{}/api/openapi.json", server.http)])
        .args(["--header", &format!("Authorization: Bearer {}", server.token("alice"))])
        .args([
            "--checks",
            "not_a_server_error,content_type_conformance,response_schema_conformance",
        ])
        .args(["--max-examples", "30", "--seed", "1", "--workers", "1", "--no-color"])
        .args(["--generation-database", "none"])
        .output()
        .unwrap_or_else(|error| panic!("{}: {error}; .ci/install installs it", tools.display()));
    let said = String::from_utf8_lossy(&fuzzed.stdout);
    assert!(fuzzed.status.success(), "{said}\n{}", String::from_utf8_lossy(&fuzzed.stderr));
    assert!(said.contains("Test cases:"), "it has not run: {said}");
}
