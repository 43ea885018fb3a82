//! The token that callers from elsewhere need: from the settings, or a file that is made once.

use std::{
    fs, io,
    io::Write,
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use super::config::{Config, Token};

/// The shortest token that is taken, in characters.
const SHORTEST: usize = 16;

/// Why there is no token.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// The file can't be read or made.
    #[error("token file {path}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Anybody could guess it.
    #[error("the token in {0} is shorter than {SHORTEST} characters")]
    Short(String),
}

/// The token's file in a home.
pub fn token_path(home: &Path) -> PathBuf {
    home.join("web.token")
}

/// The node's token; made, with mode 0600, where there is none.
pub(super) fn load(home: &Path, config: &Config) -> Result<Token, TokenError> {
    if let Some(token) = &config.token {
        return checked(token.0.clone(), || "setting web.token".into());
    }
    let path = token_path(home);
    read_or_make(&path)
        .map_err(|source| TokenError::File { path: path.clone(), source })
        .and_then(|text| checked(text.trim().to_owned(), || path.display().to_string()))
}

fn checked(token: String, origin: impl Fn() -> String) -> Result<Token, TokenError> {
    if token.chars().count() < SHORTEST {
        Err(TokenError::Short(origin()))
    } else {
        Ok(Token(token))
    }
}

fn read_or_make(path: &Path) -> io::Result<String> {
    match fs::read_to_string(path) {
        Ok(text) => {
            if fs::metadata(path)?.permissions().mode() & 0o077 != 0 {
                tracing::warn!(path = %path.display(), "the token was open to others; it is closed now");
                fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
            }
            Ok(text)
        }
        Err(e) if e.kind() == io::ErrorKind::NotFound => make(path),
        Err(e) => Err(e),
    }
}

fn make(path: &Path) -> io::Result<String> {
    let text = rhd_protocol::id::encode_base32(&rand::random::<[u8; 32]>());
    // Under another name first: a file of half a token would stay.
    let temp = path.with_extension("token.tmp");
    let _ = fs::remove_file(&temp);
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temp)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&temp, path)?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_is_made_once_and_is_the_owners_alone() {
        let home = tempfile::tempdir().unwrap();
        let token = load(home.path(), &Config::default()).unwrap();
        let path = token_path(home.path());
        let mode = || fs::metadata(&path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(), token.0.len()), (0o600, 52));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        assert_eq!(load(home.path(), &Config::default()).unwrap(), token);
        assert_eq!(mode(), 0o600);
        assert!(!format!("{token:?}").contains(&token.0));
    }

    #[test]
    fn what_can_be_guessed_is_refused() {
        let home = tempfile::tempdir().unwrap();
        for short in ["", "hunter2"] {
            let config = Config { token: Some(Token(short.into())), ..Config::default() };
            assert!(matches!(load(home.path(), &config), Err(TokenError::Short(_))));
        }
        fs::write(token_path(home.path()), "").unwrap();
        assert!(matches!(load(home.path(), &Config::default()), Err(TokenError::Short(_))));
    }
}
