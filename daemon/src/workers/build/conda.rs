//! Conda envs that exist on the node.

use std::{
    env, fs,
    path::{Path, PathBuf},
};

use rhd_protocol::error::{ErrorInfo, ErrorKind};

/// Commands that manage conda envs.
const COMMANDS: [&str; 3] = ["conda", "mamba", "micromamba"];
/// Where installers put it, below the home directory.
const PLACES: [&str; 4] = ["miniconda3", "anaconda3", "miniforge3", "mambaforge"];

/// The prefix of an env, by its name or as it is.
pub(super) fn prefix(env: &str) -> Result<PathBuf, ErrorInfo> {
    if env.contains('/') {
        return has_python(Path::new(env)).ok_or_else(|| missing(env, &[]));
    }
    let roots = roots();
    let found = roots.iter().find_map(|root| match env {
        "base" => has_python(root),
        _ => has_python(&root.join("envs").join(env)),
    });
    found.ok_or_else(|| missing(env, &roots))
}

fn has_python(prefix: &Path) -> Option<PathBuf> {
    prefix.join("bin/python").exists().then(|| prefix.to_owned())
}

fn missing(env: &str, roots: &[PathBuf]) -> ErrorInfo {
    let known: Vec<String> = roots
        .iter()
        .filter_map(|root| fs::read_dir(root.join("envs")).ok())
        .flat_map(|dir| dir.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()))
        .take(20)
        .collect();
    let hint = match (roots.is_empty(), known.is_empty()) {
        (true, _) => "no conda was found; name the env by its path".to_owned(),
        (false, true) => format!("make it with `conda create -n {env} python=3.12`"),
        (false, false) => format!("there are {}", known.join(", ")),
    };
    ErrorInfo::new(ErrorKind::EnvError, format!("there is no conda env {env} with a Python"))
        .hint(hint)
}

fn roots() -> Vec<PathBuf> {
    let mut roots: Vec<PathBuf> = Vec::new();
    // <root>/bin/conda or <root>/condabin/conda
    let of_exe = |exe: &Path| Some(fs::canonicalize(exe).ok()?.parent()?.parent()?.to_owned());
    roots.extend(env::var_os("CONDA_EXE").and_then(|exe| of_exe(Path::new(&exe))));
    roots.extend(env::var_os("MAMBA_ROOT_PREFIX").map(PathBuf::from));
    for command in COMMANDS {
        roots.extend(super::steps::on_path(command).and_then(|exe| of_exe(&exe)));
    }
    let home = env::home_dir().unwrap_or_default();
    roots.extend(PLACES.map(|place| home.join(place)));
    roots.extend([home.join(".conda"), PathBuf::from("/opt/conda")]);
    roots.retain(|root| root.is_dir());
    roots.dedup();
    roots
}
