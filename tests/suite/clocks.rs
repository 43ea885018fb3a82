//! Nodes whose clocks are an hour apart: tickets, links, calls and deadlines do not care.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use rhd_protocol::api::PathKind;
use rhd_tests::{Node, until};

const HOUR: i64 = 3600;

/// Tells the program that it is put before another time of day; the monotonic clock stays.
const SHIM: &str = r#"
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <time.h>

int clock_gettime(clockid_t id, struct timespec *at) {
    static int (*real)(clockid_t, struct timespec *);
    if (!real) real = dlsym(RTLD_NEXT, "clock_gettime");
    int failed = real(id, at);
    if (!failed && id == CLOCK_REALTIME) at->tv_sec += atol(getenv("CLOCK_OFFSET"));
    return failed;
}
"#;

/// Builds the shim with the C compiler that Rust links with.
fn shim(folder: &Path) -> PathBuf {
    let (source, library) = (folder.join("clock.c"), folder.join("clock.so"));
    fs::write(&source, SHIM).unwrap();
    let mut cc = Command::new("cc");
    cc.args(["-shared", "-fPIC", "-o"]).arg(&library).arg(&source).arg("-ldl");
    assert!(cc.status().unwrap().success());
    library
}

#[test]
fn clocks_an_hour_apart_hinder_nobody() {
    let folder = tempfile::tempdir().unwrap();
    let shim = shim(folder.path());
    let shifted = |name: &str, by: i64| {
        let node = Node::prepare(name).var("LD_PRELOAD", shim.to_str().unwrap());
        node.var("CLOCK_OFFSET", &by.to_string()).up()
    };
    // Started in the order that only the shim reverses.
    let (early, right, late) =
        (shifted("early", HOUR), shifted("right", 0), shifted("late", -HOUR));
    assert!(logged(&late) < logged(&right) && logged(&right) < logged(&early));

    // A ticket lives by the clock of its host, so one that is made for minutes serves both.
    let ticket = right.rhd(&["invite", "--uses", "2", "--expires", "5m"]).ok();
    for node in [&late, &early] {
        node.join(ticket.trim());
    }
    for node in [&late, &right, &early] {
        until("all are linked to all", || {
            let peers = node.peers();
            (peers.iter().filter(|p| p.path == PathKind::Direct).count() == 2).then_some(())
        });
    }
    let file = folder.path().join("same.py");
    fs::write(
        &file,
        "import sys, rhd as rh\n\
         def same(x): return x\n\
         rh.function(same, name=sys.argv[1]).to(sys.argv[2])\n",
    )
    .unwrap();
    let file = file.to_str().unwrap();
    for (from, to) in [(&late, &early), (&early, &late)] {
        let name = format!("on-{}", to.name());
        from.rhd(&["python", file, &name, to.name()]).ok();
        assert_eq!(from.rhd(&["call", &name, "7", "--timeout", "30s"]).ok(), "7\n");
        // And who neither sent nor hosts it has heard of it.
        until("the name spreads", || (right.rhd(&["call", &name, "8"]).code == 0).then_some(()));
    }
}

/// The first time of day in its log.
fn logged(node: &Node) -> String {
    until("it logs", || {
        let log = node.log();
        let (_, rest) = log.split_once("\"timestamp\":\"")?;
        rest.split('"').next().map(str::to_owned)
    })
}
