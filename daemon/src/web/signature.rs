//! Parameters read out of a signature such as `(a, b: int = 2, *rest, **more) -> str`.
//!
//! A signature is text for people: what can't be read in it is left out, never guessed.

/// The most parameters that are read.
const MOST: usize = 256;

/// One parameter that can be given by name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Parameter {
    pub(super) name: String,
    /// Its annotation, where it has one.
    pub(super) of: Option<String>,
    /// Whether it has to be given.
    pub(super) required: bool,
}

/// What a signature says.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Signature {
    pub(super) parameters: Vec<Parameter>,
    /// Whether further named arguments are taken.
    pub(super) more: bool,
}

/// Reads a signature; none when it is no such text.
pub(super) fn parse(text: &str) -> Option<Signature> {
    let text = text.trim().strip_prefix('(')?;
    let mut signature = Signature::default();
    for part in split(text, ',')?.into_iter().take(MOST) {
        let part = part.trim();
        if part.starts_with("**") {
            signature.more = true;
        } else if !part.is_empty() && !part.starts_with('*') && part != "/" {
            signature.parameters.push(parameter(part)?);
        }
    }
    Some(signature)
}

fn parameter(text: &str) -> Option<Parameter> {
    let sides = split_once(text, '=');
    let (left, required) = sides.map_or((text, true), |(left, _)| (left, false));
    let (name, of) = split_once(left, ':').map_or((left, None), |(name, of)| (name, Some(of)));
    let name = name.trim();
    let fine = !name.is_empty() && name.chars().all(|c| c.is_alphanumeric() || c == '_');
    let of = of.map(|of| of.trim().trim_matches(['\'', '"']).to_owned());
    fine.then(|| Parameter { name: name.to_owned(), of, required })
}

fn split_once(text: &str, at: char) -> Option<(&str, &str)> {
    let found = outside(text).find(|(_, c)| *c == at)?;
    Some((text.get(..found.0)?, text.get(found.0 + at.len_utf8()..)?))
}

/// The parts between commas, up to the closing parenthesis.
fn split(text: &str, at: char) -> Option<Vec<&str>> {
    let (mut parts, mut start) = (Vec::new(), 0);
    for (place, c) in outside(text) {
        if c == at {
            parts.push(text.get(start..place)?);
            start = place + c.len_utf8();
        } else if c == ')' {
            parts.push(text.get(start..place)?);
            return Some(parts);
        }
    }
    None
}

/// The characters that are in no string and no bracket of their own; of brackets, only one that
/// closes what was open before the text.
fn outside(text: &str) -> impl Iterator<Item = (usize, char)> {
    let (mut depth, mut quote, mut escaped) = (0_usize, None, false);
    text.char_indices().filter(move |(_, c)| {
        if let Some(open) = quote {
            let ends = *c == open && !escaped;
            escaped = *c == '\\' && !escaped;
            if ends {
                quote = None;
            }
            return false;
        }
        match c {
            '\'' | '"' => quote = Some(*c),
            '(' | '[' | '{' | '<' => depth += 1,
            ')' | ']' | '}' | '>' if depth > 0 => depth -= 1,
            _ => return depth == 0,
        }
        false
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_read_as_python_writes_them() {
        let text = "(a, /, b: 'int', *rest, c: dict[str, int] = {'x': (1, ','), \"y\": 2}, d=')', **m) -> str";
        let signature = parse(text).unwrap();
        let seen: Vec<_> = signature
            .parameters
            .iter()
            .map(|p| (p.name.as_str(), p.of.as_deref(), p.required))
            .collect();
        assert_eq!(
            seen,
            [
                ("a", None, true),
                ("b", Some("int"), true),
                ("c", Some("dict[str, int]"), false),
                ("d", None, false)
            ]
        );
        assert!(signature.more);
        let rust = parse("(x: HashMap<String, (u64, f64)>, y: u64) -> Vec<u8>").unwrap();
        assert_eq!(rust.parameters.len(), 2);
        assert_eq!(parse("()"), Some(Signature::default()));
    }

    #[test]
    fn no_text_makes_it_panic() {
        use rand::{Rng, SeedableRng};
        let mut random = rand::rngs::StdRng::seed_from_u64(3);
        let alphabet: Vec<char> = "(a, b: 'x' = [1]){}<>\"\\*=/\u{e9}\u{10ffff}".chars().collect();
        for _ in 0..20_000 {
            let pick = |_| alphabet[random.random_range(0..alphabet.len())];
            let text: String = (0..20).map(pick).collect();
            let _ = parse(&format!("({text}"));
        }
    }

    #[test]
    fn what_is_no_signature_is_none() {
        for bad in ["", "(", "a, b", "(a", "(a b)", "(=1)", "('a')", "(\u{e9}\u{301})", "([)"] {
            assert_eq!(parse(bad), None, "{bad}");
        }
        let wide = format!("({})", "a,".repeat(100_000));
        assert_eq!(parse(&wide).map(|s| s.parameters.len()), Some(MOST));
    }
}
