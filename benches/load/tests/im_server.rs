//! What needs a whole im-server: people, groups, and what they have said before.

#![allow(clippy::expect_used, reason = "helpers of tests")]

use std::path::Path;
use std::time::Duration;

use stomp_load::scenario::{Load, Shape, Traffic};
use stomp_load::{Keeping, Local, Report, Silent, Target};

/// The server that was built beside the generator
fn server(keeping: Keeping) -> Local {
    let program = Path::new(env!("CARGO_BIN_EXE_stomp-load")).with_file_name("im-server");
    Local::im_server(&program, keeping).expect("im-server starts")
}

fn run(traffic: &Traffic, target: &Target) -> Report {
    traffic.run(target, &mut Silent::default()).expect("a report")
}

fn short(shape: Shape) -> Traffic {
    Traffic::new(shape, Load::Window(3)).with_times(Duration::ZERO, Duration::from_millis(100))
}

#[test]
#[ignore = "needs im-server: cargo build -p im-server"]
fn a_message_to_a_group_is_delivered_to_each_other_member() {
    let server = server(Keeping::Files);
    for members in [2, 7] {
        let name = format!("of-{members}");
        let people = server.group(&name, members).expect("a group");
        for _ in 0..2 {
            let report = run(&short(Shape::Group(members)).with_group(&name), &people);
            assert!(!report.faults.any(), "{}", report.faults);
            let copies = members as u64 - 1;
            assert!(report.sent > 0 && report.delivered == copies * report.sent, "{report:?}");
            assert_eq!(report.connections, members);
        }
    }
}

#[test]
#[ignore = "needs im-server: cargo build -p im-server"]
fn people_write_to_each_other_where_much_was_said_before() {
    let server = server(Keeping::Files);
    server.fill(4, 12_345).expect("filled");
    let people = server.people(4).expect("people");
    let report = run(&short(Shape::Ring(4)), &people);
    assert!(!report.faults.any() && report.sent > 0, "{report:?}");
}

#[test]
#[ignore = "needs im-server: cargo build -p im-server"]
fn what_no_disk_holds_is_not_begun() {
    let server = server(Keeping::Memory);
    let error = server.fill(2, 1 << 50).expect_err("too much");
    assert!(error.to_string().contains("set TMPDIR"), "{error}");
}
