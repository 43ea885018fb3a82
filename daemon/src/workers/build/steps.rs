//! The steps of a build: interpreter, virtual env, packages, setup commands.

use std::{
    env,
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
};

use rhd_protocol::{
    env::EnvSpec,
    error::{ErrorInfo, ErrorKind},
};
use tokio::{process::Command, sync::broadcast};

use super::{Builder, Built, command::run, conda};
use crate::workers::python::{Interpreter, probe};

type Progress = broadcast::Sender<String>;

/// Builds a spec in the empty directory `dir`.
pub(super) async fn build(
    builder: &Builder,
    spec: &EnvSpec,
    dir: &Path,
    progress: &Progress,
) -> Result<Built, ErrorInfo> {
    let reqs = requirements(spec)?;
    let (parent, as_it_is) = parent(builder, spec).await?;
    let dir = dir.to_owned();
    if reqs.is_empty() && spec.setup_cmds.is_empty() {
        return Ok(Built { interpreter: parent, venv: None, dir });
    }
    let venv = dir.join("venv");
    let uv = on_path("uv").filter(|_| !as_it_is);
    tell(progress, format!("making a virtual env with Python {}", parent.version));
    let mut make = match &uv {
        Some(uv) => command(uv, &["venv", "--quiet", "--seed", "--python"], &dir),
        None => command(&parent.path, &["-m", "venv"], &dir),
    };
    if uv.is_some() {
        make.arg(&parent.path);
    }
    make.arg(&venv);
    run("making a virtual env", make, progress).await.map_err(|e| {
        e.hint("on Debian and Ubuntu `apt install python3-venv` adds what is missing")
    })?;
    let python = venv.join("bin/python");
    if as_it_is {
        see_parent(&parent, &venv, progress, &dir).await?;
    }
    if !reqs.is_empty() {
        let list = dir.join("requirements.txt");
        fs::write(&list, reqs.join("\n") + "\n").map_err(|e| unwritable(&list, &e))?;
        tell(progress, format!("installing {}", reqs.join(", ")));
        let mut install = installer(uv.as_deref(), &python, &dir);
        install.arg("-r").arg(&list);
        run(&format!("installing the packages of env {}", spec.key()), install, progress)
            .await
            .map_err(|e| e.hint("check the names and versions in `reqs`, and the network"))?;
    }
    let mut support = installer(uv.as_deref(), &python, &dir);
    if uv.is_none() {
        support.args(["--retries", "0", "--timeout", "5"]);
    }
    support.args(["cloudpickle", "msgpack"]);
    if let Err(e) = run("installing cloudpickle and msgpack", support, progress).await {
        tracing::info!("the SDK's own copies are used: {}", e.message);
    }
    for text in &spec.setup_cmds {
        tell(progress, text.clone());
        let mut shell = command(Path::new("/bin/sh"), &["-c", text], &dir);
        shell.env("VIRTUAL_ENV", &venv).env("PATH", path_with(&venv.join("bin")));
        shell.envs(&spec.env_vars);
        run(&format!("setup command `{text}`"), shell, progress)
            .await
            .map_err(|e| e.hint("correct it in `setup_cmds`"))?;
    }
    let interpreter = Interpreter { path: python, version: parent.version };
    Ok(Built { interpreter, venv: Some(venv), dir })
}

/// Requirements, one a line of a requirements file.
fn requirements(spec: &EnvSpec) -> Result<Vec<String>, ErrorInfo> {
    let texts = spec.reqs.iter().chain(&spec.setup_cmds);
    if let Some(bad) = texts.into_iter().find(|text| text.contains('\0') || text.len() > 10_000) {
        let start: String = bad.chars().take(60).collect();
        return Err(ErrorInfo::new(ErrorKind::BadRequest, format!("{start:?} can't be installed")));
    }
    if let Some(bad) = spec.reqs.iter().find(|req| req.contains(['\n', '\r'])) {
        let text = format!("{bad:?} is more than one requirement");
        return Err(
            ErrorInfo::new(ErrorKind::BadRequest, text).hint("put each on its own in `reqs`")
        );
    }
    Ok(spec.reqs.iter().map(|r| r.trim().to_owned()).filter(|r| !r.is_empty()).collect())
}

/// The interpreter that a spec starts from, and whether its own packages are to be seen.
async fn parent(builder: &Builder, spec: &EnvSpec) -> Result<(Interpreter, bool), ErrorInfo> {
    if let Some(env) = &spec.conda_env {
        let python = conda::prefix(env)?.join("bin/python");
        return known(&python).await.map(|found| (found, true));
    }
    match &spec.python {
        None => builder.base().await.map(|found| (found, false)),
        Some(path) if path.contains('/') => known(Path::new(path)).await.map(|found| (found, true)),
        Some(version) => of_version(builder, version).await.map(|found| (found, false)),
    }
}

async fn known(python: &Path) -> Result<Interpreter, ErrorInfo> {
    probe(python).await.ok_or_else(|| {
        let text = format!("{} is no Python that can be run", python.display());
        ErrorInfo::new(ErrorKind::EnvError, text).hint("check the path on the node that builds it")
    })
}

async fn of_version(builder: &Builder, version: &str) -> Result<Interpreter, ErrorInfo> {
    let well_formed =
        version.split('.').all(|p| !p.is_empty() && p.bytes().all(|b| b.is_ascii_digit()));
    if !well_formed {
        let text = format!("{version:?} is neither a version of Python nor the path of one");
        return Err(
            ErrorInfo::new(ErrorKind::BadRequest, text).hint("write it like python=\"3.12\"")
        );
    }
    let fits = |found: &Interpreter| {
        found.version == version || found.version.starts_with(&format!("{version}."))
    };
    if let Ok(base) = builder.base().await
        && fits(&base)
    {
        return Ok(base);
    }
    let minor = crate::workers::python::minor(version);
    let mut places = vec![PathBuf::from(format!("python{minor}"))];
    let pyenv = env::var_os("PYENV_ROOT").map(PathBuf::from);
    let pyenv = pyenv.unwrap_or_else(|| env::home_dir().unwrap_or_default().join(".pyenv"));
    for entry in fs::read_dir(pyenv.join("versions")).into_iter().flatten().flatten() {
        if entry.file_name().to_string_lossy().starts_with(&minor) {
            places.push(entry.path().join("bin/python"));
        }
    }
    for place in places {
        if let Some(found) = probe(&place).await.filter(fits) {
            return Ok(found);
        }
    }
    if let Some(uv) = on_path("uv") {
        let install =
            tokio::process::Command::new(&uv).args(["python", "install", version]).output();
        let _ = tokio::time::timeout(builder.config.build_timeout(), install).await;
        if let Ok(found) = Command::new(&uv).args(["python", "find", version]).output().await
            && let Some(found) =
                probe(Path::new(String::from_utf8_lossy(&found.stdout).trim())).await
            && fits(&found)
        {
            return Ok(found);
        }
    }
    Err(ErrorInfo::new(ErrorKind::EnvError, format!("there is no Python {version} on this node"))
        .hint("install it there (uv, pyenv and PATH are searched), or leave `python` out"))
}

/// Makes the packages of an interpreter that is used as it is visible in the env above it; a plain
/// virtual env would hide them.
async fn see_parent(
    parent: &Interpreter,
    venv: &Path,
    progress: &Progress,
    dir: &Path,
) -> Result<(), ErrorInfo> {
    let script = "import site, sys, pathlib\n\
        here = next(p for p in pathlib.Path(sys.argv[1]).glob('lib/python*/site-packages'))\n\
        lines = ['import site; site.addsitedir(%r)' % p for p in site.getsitepackages()]\n\
        (here / '_rhd_parent.pth').write_text('\\n'.join(lines) + '\\n')\n";
    let mut write = command(&parent.path, &["-c", script], dir);
    write.arg(venv);
    run("linking the interpreter's own packages", write, progress).await
}

fn installer(uv: Option<&Path>, python: &Path, dir: &Path) -> Command {
    match uv {
        Some(uv) => {
            let mut install = command(uv, &["pip", "install", "--python"], dir);
            install.arg(python);
            install
        }
        None => {
            let options = ["--no-input", "--disable-pip-version-check", "--progress-bar", "off"];
            let mut install = command(python, &["-m", "pip", "install"], dir);
            install.args(options);
            install
        }
    }
}

fn command(program: &Path, args: &[&str], dir: &Path) -> Command {
    let mut command = Command::new(program);
    command.args(args).current_dir(dir).env_remove("PYTHONHOME").env_remove("PYTHONPATH");
    command.env("PYTHONUNBUFFERED", "1");
    command
}

/// `PATH` with a folder in front.
pub(in crate::workers) fn path_with(bin: &Path) -> OsString {
    let path = env::var_os("PATH").unwrap_or_default();
    env::join_paths(std::iter::once(bin.to_owned()).chain(env::split_paths(&path))).unwrap_or(path)
}

/// Where a command is.
pub(super) fn on_path(command: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH")?;
    env::split_paths(&path).map(|dir| dir.join(command)).find(|file| file.is_file())
}

fn tell(progress: &Progress, line: String) {
    let _ = progress.send(line);
}

fn unwritable(path: &Path, e: &std::io::Error) -> ErrorInfo {
    ErrorInfo::new(ErrorKind::EnvError, format!("{}: {e}", path.display()))
        .hint("look at the permissions and free space there")
}
