//! Programs that are workers themselves: what this machine runs, and the file that an env starts.

use std::{
    fs, io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::LazyLock,
};

use rhd_protocol::{
    env::EnvSpec,
    error::{ErrorInfo, ErrorKind},
    program::{HEAD, Target},
};

use super::{
    build::{Builder, Built},
    python::Interpreter,
    specs,
};

/// What programs may be built for to run here, the most usual first.
pub fn targets() -> &'static [Target] {
    static HERE: LazyLock<Vec<Target>> = LazyLock::new(look);
    &HERE
}

fn look() -> Vec<Target> {
    let arch = std::env::consts::ARCH;
    let target = |os, libc| Target { arch: arch.into(), os, libc };
    if cfg!(target_os = "macos") {
        return vec![target("macos", "")];
    }
    let mut found = Vec::new();
    for (libc, loader) in [("gnu", "ld-linux"), ("musl", "ld-musl")] {
        let names = ["/lib", "/lib64"].into_iter().flat_map(fs::read_dir).flatten().flatten();
        if names.into_iter().any(|file| file.file_name().to_string_lossy().starts_with(loader)) {
            found.push(target("linux", libc));
        }
    }
    if found.is_empty() {
        found.push(target("linux", "static"));
    }
    found
}

/// Puts the program of an env at its place, unless it is there; says what it was built for.
pub(super) fn provide(builder: &Builder, spec: &EnvSpec, file: &Path) -> Result<Target, ErrorInfo> {
    let io = |e: io::Error| {
        ErrorInfo::new(ErrorKind::EnvError, format!("program {}: {e}", file.display()))
            .hint("look at the permissions and free space of the node's home")
    };
    let mut head = Vec::new();
    let opened = fs::File::open(file).map_err(io)?;
    io::Read::read_to_end(&mut io::Read::take(opened, HEAD as u64), &mut head).map_err(io)?;
    let target = Target::of(&head).ok_or_else(|| {
        ErrorInfo::new(ErrorKind::BadRequest, format!("{} is no program", file.display()))
    })?;
    if builder.ready(spec).is_some() {
        return Ok(target);
    }
    let dir = builder.dir(spec);
    fs::create_dir_all(&dir).map_err(io)?;
    let place = dir.join(file.file_name().unwrap_or("program".as_ref()));
    put(file, &place).map_err(io)?;
    let interpreter = Interpreter { path: place, version: String::new() };
    let built = Built { interpreter, venv: None, dir: dir.clone() };
    let bytes = serde_json::to_vec_pretty(&built).unwrap_or_default();
    specs::write_atomically(&dir.join("ready.json"), &bytes).map_err(io)?;
    Ok(target)
}

/// A link where it can be one: the file is never written again.
fn put(file: &Path, place: &PathBuf) -> io::Result<()> {
    let _ = fs::remove_file(place);
    if fs::hard_link(file, place).is_ok() {
        return Ok(());
    }
    let dir = place.parent().unwrap_or(Path::new("."));
    let mut copy = tempfile::NamedTempFile::new_in(dir)?;
    io::copy(&mut fs::File::open(file)?, copy.as_file_mut())?;
    copy.as_file().set_permissions(fs::Permissions::from_mode(0o555))?;
    copy.persist(place).map(drop).map_err(|e| e.error)
}
