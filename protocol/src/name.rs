//! The name grammar: `/user/x`, `/group/x/y`, `@/x`, `~/x`, `^x`, and bare names.

use std::fmt;

/// The longest name, in characters.
pub const MAX_NAME: usize = 200;

/// A text that is no name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Nothing there.
    #[error("a name can't be empty")]
    Empty,
    /// Over [`MAX_NAME`].
    #[error("name of {0} characters; the limit is {MAX_NAME}")]
    TooLong(usize),
    /// A part is empty, `.`, `..`, or has a character that is not allowed.
    #[error("{0:?} is no name: use letters, digits, '-', '_' and '.', in parts joined by '/'")]
    Part(String),
    /// `/x` names a folder of a user, not a thing in one.
    #[error("{0:?} lacks a part: a full name is /user/name")]
    Short(String),
}

/// Where a name points before it is resolved against a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Name {
    /// `/user/x`: the same everywhere.
    Full(String),
    /// `@/x`: in my own folder.
    Own(String),
    /// `~/x`: in the git work tree, no service.
    Local(String),
    /// `^x`: a builtin.
    Builtin(String),
    /// `x` or `x/y`: in the current folder.
    Bare(String),
}

impl Name {
    /// Reads a name and checks every part of it.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        if text.is_empty() {
            return Err(NameError::Empty);
        }
        let length = text.chars().count();
        if length > MAX_NAME {
            return Err(NameError::TooLong(length));
        }
        let (form, rest): (fn(String) -> Self, &str) = if let Some(rest) = text.strip_prefix("@/") {
            (Self::Own, rest)
        } else if let Some(rest) = text.strip_prefix("~/") {
            (Self::Local, rest)
        } else if let Some(rest) = text.strip_prefix('^') {
            (Self::Builtin, rest)
        } else if let Some(rest) = text.strip_prefix('/') {
            if !rest.contains('/') {
                return Err(NameError::Short(text.into()));
            }
            (Self::Full, rest)
        } else {
            (Self::Bare, text)
        };
        match rest.split('/').find(|part| !is_part(part)) {
            Some(_) => Err(NameError::Part(text.into())),
            None => Ok(form(rest.into())),
        }
    }

    /// The canonical name, for a user whose current folder is `folder` (`/user` or below).
    /// Local and builtin names keep their sign.
    pub fn canonical(&self, user: &str, folder: &str) -> String {
        match self {
            Self::Full(rest) => format!("/{rest}"),
            Self::Own(rest) => format!("/{user}/{rest}"),
            Self::Bare(rest) => format!("{}/{rest}", folder.trim_end_matches('/')),
            Self::Local(rest) => format!("~/{rest}"),
            Self::Builtin(rest) => format!("^{rest}"),
        }
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full(rest) => write!(f, "/{rest}"),
            Self::Own(rest) => write!(f, "@/{rest}"),
            Self::Local(rest) => write!(f, "~/{rest}"),
            Self::Builtin(rest) => write!(f, "^{rest}"),
            Self::Bare(rest) => f.write_str(rest),
        }
    }
}

/// Whether `part` may stand between two slashes of a name.
pub fn is_part(part: &str) -> bool {
    !part.is_empty()
        && part != "."
        && part != ".."
        && part.chars().all(|c| c.is_alphanumeric() || matches!(c, '-' | '_' | '.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_resolves() {
        let full = |text: &str| Name::parse(text).unwrap().canonical("ann", "/team/models");
        assert_eq!(full("/bob/x"), "/bob/x");
        assert_eq!(full("@/x.v2"), "/ann/x.v2");
        assert_eq!(full("x/y"), "/team/models/x/y");
        assert_eq!(full("~/x"), "~/x");
        assert_eq!(full("^py"), "^py");
    }

    #[test]
    fn what_is_no_name_is_refused() {
        for bad in
            ["", "/", "/x", "a b", "../x", "@/../x", "a//b", "/a/b/", "a\0", "^", "~/", "x/."]
        {
            assert!(Name::parse(bad).is_err(), "{bad:?}");
        }
        assert_eq!(Name::parse(&"x".repeat(201)), Err(NameError::TooLong(201)));
    }
}
