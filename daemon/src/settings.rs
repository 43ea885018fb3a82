//! Settings in layers: flags over environment over `<home>/config.toml` over defaults.
//!
//! Each room owns its section; nothing else of the daemon reads the environment.

use std::path::{Path, PathBuf};

use serde::{Deserialize, de::DeserializeOwned};
use toml::{Table, Value};

/// The settings of every room.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// The node itself.
    pub node: crate::node::config::Config,
    /// Peers and sockets.
    pub mesh: crate::mesh::Config,
    /// Worker processes and envs.
    pub workers: crate::workers::Config,
    /// Content.
    pub blobs: crate::blobs::Config,
    /// Data that is stored and moved.
    pub data: crate::data::Config,
    /// What is kept of calls.
    pub runs: crate::runs::Config,
    /// HTTP.
    pub web: crate::web::Config,
    /// Logs.
    pub log: crate::node::logging::Config,
}

/// Why the settings can't be used.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// The file is there and can't be read.
    #[error("read {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file is no TOML.
    #[error("{path}: {source}")]
    Toml {
        /// The file.
        path: PathBuf,
        /// Line, column and what was expected.
        source: Box<toml::de::Error>,
    },
    /// A setting is unknown or of the wrong type.
    #[error("{origin}: {reason}")]
    Setting {
        /// File, variable or flag.
        origin: String,
        /// What is wrong with it.
        reason: String,
    },
}

/// The process environment; what is not text is nobody's setting.
pub fn environment() -> impl Iterator<Item = (String, String)> {
    std::env::vars_os().filter_map(|(k, v)| Some((k.into_string().ok()?, v.into_string().ok()?)))
}

/// Reads all layers. `flags` are `section.key=value` texts, `vars` the process environment.
pub fn load(
    home: &Path,
    flags: &[String],
    vars: impl Iterator<Item = (String, String)>,
) -> Result<Settings, SettingsError> {
    let path = home.join("config.toml");
    let mut table = match std::fs::read_to_string(&path) {
        Ok(text) => text.parse::<Table>().map_err(|source| SettingsError::Toml {
            path: path.clone(),
            source: Box::new(source),
        })?,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Table::new(),
        Err(source) => return Err(SettingsError::Read { path, source }),
    };
    check(&table, || path.display().to_string())?;
    for (name, value) in vars {
        // RHD_MESH_PORT=4242 is [mesh] port = 4242. Names with no section, such as RHD_HOME, belong
        // to the command line and to workers.
        let Some((section, key)) = name.strip_prefix("RHD_").and_then(|n| n.split_once('_')) else {
            continue;
        };
        let section = section.to_lowercase();
        if SECTIONS.contains(&section.as_str()) {
            set(&mut table, &section, &key.to_lowercase(), &value);
            check(&table, || format!("environment variable {name}"))?;
        }
    }
    for flag in flags {
        let wrong = |reason: &str| SettingsError::Setting {
            origin: format!("--set {flag}"),
            reason: reason.into(),
        };
        let (path, value) = flag.split_once('=').ok_or_else(|| wrong("no '=' in it"))?;
        let (section, key) = path.split_once('.').ok_or_else(|| wrong("no '.' in it"))?;
        set(&mut table, section, key, value);
        check(&table, || format!("--set {flag}"))?;
    }
    from(table, || path.display().to_string())
}

const SECTIONS: [&str; 8] = ["node", "mesh", "workers", "blobs", "data", "runs", "web", "log"];

fn set(table: &mut Table, section: &str, key: &str, value: &str) {
    // A value is TOML where it reads as TOML (numbers, true, lists), else text.
    let value = format!("v = {value}")
        .parse::<Table>()
        .ok()
        .and_then(|mut t| t.remove("v"))
        .unwrap_or_else(|| Value::String(value.into()));
    if let Value::Table(section) =
        table.entry(section).or_insert_with(|| Value::Table(Table::new()))
    {
        section.insert(key.into(), value);
    }
}

/// Names the layer that broke the settings, rather than the last one read.
fn check(table: &Table, origin: impl Fn() -> String) -> Result<(), SettingsError> {
    from::<Settings>(table.clone(), origin).map(drop)
}

fn from<T: DeserializeOwned>(
    table: Table,
    origin: impl Fn() -> String,
) -> Result<T, SettingsError> {
    Value::Table(table).try_into().map_err(|e: toml::de::Error| SettingsError::Setting {
        origin: origin(),
        reason: e.message().to_string(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vars(vars: &[(&str, &str)]) -> std::vec::IntoIter<(String, String)> {
        let vars: Vec<_> = vars.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect();
        vars.into_iter()
    }

    #[test]
    fn flags_beat_environment_beats_file_beats_default() {
        let home = tempfile::tempdir().unwrap();
        let name = |flags: &[String], v: &[(&str, &str)]| {
            load(home.path(), flags, vars(v)).unwrap().node.name
        };
        assert_eq!(name(&[], &[]), None);
        std::fs::write(home.path().join("config.toml"), "[node]\nname = 'file'\n").unwrap();
        assert_eq!(name(&[], &[]).as_deref(), Some("file"));
        let env = [("RHD_NODE_NAME", "env"), ("RHD_HOME", "/x"), ("RHD_WORKER_SOCKET", "y")];
        assert_eq!(name(&[], &env).as_deref(), Some("env"));
        assert_eq!(name(&["node.name=flag".into()], &env).as_deref(), Some("flag"));
    }

    #[test]
    fn a_mistake_names_where_it_was_made() {
        let home = tempfile::tempdir().unwrap();
        let says = |flags: &[String], v: &[(&str, &str)]| {
            load(home.path(), flags, vars(v)).unwrap_err().to_string()
        };
        assert!(says(&["node.nme=x".into()], &[]).contains("--set node.nme=x"));
        assert!(says(&[], &[("RHD_MESH_PORT", "x")]).contains("RHD_MESH_PORT"));
        std::fs::write(home.path().join("config.toml"), "[node]\nname = \n").unwrap();
        let text = says(&[], &[]);
        assert!(text.contains("config.toml") && text.contains("line 2"), "{text}");
    }
}
