//! Where the program under test is.

use std::{env, path::PathBuf};

/// The `rhd` under test: `RHD_BIN`, else the one that cargo put beside this test.
///
/// # Panics
/// When there is none; `cargo build -p rhd` makes it.
pub fn binary() -> PathBuf {
    if let Some(path) = env::var_os("RHD_BIN").filter(|path| !path.is_empty()) {
        return path.into();
    }
    let me = env::current_exe().unwrap();
    // target/debug/deps/suite-0123 and target/debug/rhd
    let found = me.ancestors().skip(1).take(2).map(|dir| dir.join("rhd")).find(|p| p.is_file());
    found.expect("no rhd beside the tests; build it first: cargo build -p rhd")
}
