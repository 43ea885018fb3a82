//! Arguments from the body of a call, by position or by name, and results into a body.

use std::{fmt, marker::PhantomData};

use rhd_protocol::{
    call::Codec,
    error::{ErrorInfo, ErrorKind},
    frame::MAX_BODY,
};
use serde::{
    Serialize,
    de::{
        DeserializeOwned, DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess,
        Visitor,
    },
    forward_to_deserialize_any,
};

/// How deep arguments may nest: each level takes stack from their reader.
const MAX_DEPTH: usize = 128;

/// The body of a call.
#[derive(Debug, Clone, Copy)]
pub struct Input<'a> {
    /// Its encoding, and that of the result.
    pub codec: Codec,
    /// `(args, kwargs)`; nothing for neither.
    pub body: &'a [u8],
}

/// The arguments of a function, as a tuple.
pub trait Arguments: Sized {
    /// Those that were given so far.
    type Slots: Default;
    /// How many there are.
    const COUNT: usize;

    /// Reads one.
    fn set<'de, D: Deserializer<'de>>(
        slots: &mut Self::Slots,
        at: usize,
        from: D,
    ) -> Result<(), D::Error>;

    /// Whether one was given.
    fn has(slots: &Self::Slots, at: usize) -> bool;

    /// All of them, or the position of one that is missing; an `Option` may be.
    fn take(slots: Self::Slots) -> Result<Self, usize>;
}

macro_rules! arguments {
    ($count:literal $($name:ident $at:tt)*) => {
        impl<$($name: DeserializeOwned),*> Arguments for ($($name,)*) {
            type Slots = ($(Option<$name>,)*);
            const COUNT: usize = $count;

            #[allow(unused_variables)]
            fn set<'de, De: Deserializer<'de>>(
                slots: &mut Self::Slots,
                at: usize,
                from: De,
            ) -> Result<(), De::Error> {
                match at {
                    $($at => slots.$at = Some($name::deserialize(from).map_err(no::<$name, _>)?),)*
                    _ => return Err(De::Error::custom("no such argument")),
                }
                #[allow(unreachable_code)]
                Ok(())
            }

            #[allow(unused_variables)]
            fn has(slots: &Self::Slots, at: usize) -> bool {
                match at {
                    $($at => slots.$at.is_some(),)*
                    _ => false,
                }
            }

            #[allow(unused_variables)]
            fn take(slots: Self::Slots) -> Result<Self, usize> {
                Ok(($(match slots.$at {
                    Some(value) => value,
                    None => $name::deserialize(Missing).map_err(|_| $at as usize)?,
                },)*))
            }
        }
    };
}

fn no<T, E: Error>(error: E) -> E {
    E::custom(format_args!("no {}: {error}", std::any::type_name::<T>()))
}

arguments!(0);
arguments!(1 A 0);
arguments!(2 A 0 B 1);
arguments!(3 A 0 B 1 C 2);
arguments!(4 A 0 B 1 C 2 D 3);
arguments!(5 A 0 B 1 C 2 D 3 E 4);
arguments!(6 A 0 B 1 C 2 D 3 E 4 F 5);
arguments!(7 A 0 B 1 C 2 D 3 E 4 F 5 G 6);
arguments!(8 A 0 B 1 C 2 D 3 E 4 F 5 G 6 H 7);
arguments!(9 A 0 B 1 C 2 D 3 E 4 F 5 G 6 H 7 I 8);
arguments!(10 A 0 B 1 C 2 D 3 E 4 F 5 G 6 H 7 I 8 J 9);
arguments!(11 A 0 B 1 C 2 D 3 E 4 F 5 G 6 H 7 I 8 J 9 K 10);
arguments!(12 A 0 B 1 C 2 D 3 E 4 F 5 G 6 H 7 I 8 J 9 K 10 L 11);

/// Reads the arguments of a function whose parameters have these names.
pub fn arguments<A: Arguments>(
    input: Input<'_>,
    names: &'static [&'static str],
) -> Result<A, ErrorInfo> {
    let wrong = |why: String| {
        ErrorInfo::new(ErrorKind::BadRequest, format!("the arguments do not fit: {why}"))
            .hint(format!("it takes ({})", names.join(", ")))
    };
    let mut slots = A::Slots::default();
    let body = Body::<A> { slots: &mut slots, names };
    if !input.body.is_empty() {
        match input.codec {
            Codec::Msgpack => {
                let mut reader = rmp_serde::Deserializer::from_read_ref(input.body);
                reader.set_max_depth(MAX_DEPTH);
                body.deserialize(&mut reader).map_err(|e| wrong(e.to_string()))?;
            }
            Codec::Json => {
                let mut reader = serde_json::Deserializer::from_slice(input.body);
                body.deserialize(&mut reader).map_err(|e| wrong(e.to_string()))?;
            }
            Codec::Pickle => {
                return Err(ErrorInfo::new(
                    ErrorKind::BadRequest,
                    "a compiled function reads no pickle",
                )
                .hint("send msgpack or JSON: f.options(codec=\"msgpack\")"));
            }
        }
    }
    A::take(slots).map_err(|at| wrong(format!("{} is missing", names.get(at).unwrap_or(&"one"))))
}

/// Writes a result.
pub fn write<T: Serialize>(codec: Codec, value: T, out: &mut Vec<u8>) -> Result<(), ErrorInfo> {
    let start = out.len();
    let written = match codec {
        Codec::Json => serde_json::to_writer(&mut *out, &value).map_err(|e| e.to_string()),
        Codec::Msgpack | Codec::Pickle => {
            let mut writer = rmp_serde::Serializer::new(&mut *out).with_struct_map();
            value.serialize(&mut writer).map_err(|e| e.to_string())
        }
    };
    let size = out.len() - start;
    let refused = match written {
        Err(why) => ErrorInfo::new(ErrorKind::Remote, format!("the result can't be sent: {why}")),
        Ok(()) if size > MAX_BODY => {
            let (has, most) = (size >> 20, MAX_BODY >> 20);
            let text = format!("the result has {has} MiB; one call may return {most} MiB");
            ErrorInfo::new(ErrorKind::Remote, text)
                .hint("return it as a stream of parts, or write it to a file and return its path")
        }
        Ok(()) => return Ok(()),
    };
    out.truncate(start);
    Err(refused)
}

/// `(args, kwargs)`.
struct Body<'a, A: Arguments> {
    slots: &'a mut A::Slots,
    names: &'static [&'static str],
}

impl<'de, A: Arguments> DeserializeSeed<'de> for Body<'_, A> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<(), D::Error> {
        from.deserialize_seq(self)
    }
}

impl<'de, A: Arguments> Visitor<'de> for Body<'_, A> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of arguments and a map of named ones")
    }

    fn visit_seq<S: SeqAccess<'de>>(self, mut both: S) -> Result<(), S::Error> {
        let Self { slots, names } = self;
        both.next_element_seed(Given::<A> { slots, names, named: false })?
            .ok_or_else(|| S::Error::custom("there are none"))?;
        both.next_element_seed(Given::<A> { slots, names, named: true })?;
        while both.next_element::<IgnoredAny>()?.is_some() {}
        Ok(())
    }
}

/// Either half.
struct Given<'a, A: Arguments> {
    slots: &'a mut A::Slots,
    names: &'static [&'static str],
    named: bool,
}

impl<'de, A: Arguments> DeserializeSeed<'de> for Given<'_, A> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<(), D::Error> {
        if self.named { from.deserialize_map(self) } else { from.deserialize_seq(self) }
    }
}

impl<'de, A: Arguments> Visitor<'de> for Given<'_, A> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.named { "a map of named arguments" } else { "a list of arguments" })
    }

    fn visit_seq<S: SeqAccess<'de>>(self, mut list: S) -> Result<(), S::Error> {
        let Self { slots, names, .. } = self;
        for (at, name) in names.iter().enumerate().take(A::COUNT) {
            let one = One::<A> { slots, at, name, of: PhantomData };
            if list.next_element_seed(one)?.is_none() {
                return Ok(());
            }
        }
        let mut more = 0;
        while list.next_element::<IgnoredAny>()?.is_some() {
            more += 1;
        }
        if more == 0 {
            return Ok(());
        }
        let (takes, given) = (A::COUNT, A::COUNT + more);
        Err(S::Error::custom(format_args!("{given} were given, it takes {takes}")))
    }

    fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<(), M::Error> {
        let Self { slots, names, .. } = self;
        while let Some(key) = map.next_key::<std::borrow::Cow<'_, str>>()? {
            let Some(at) = names.iter().position(|name| *name == key) else {
                let key: String = key.chars().take(100).collect();
                return Err(M::Error::custom(format_args!("it has none named {key:?}")));
            };
            if A::has(slots, at) {
                return Err(M::Error::custom(format_args!("{key} was given twice")));
            }
            map.next_value_seed(One::<A> { slots, at, name: names[at], of: PhantomData })?;
        }
        Ok(())
    }
}

/// One argument, named where it does not fit.
struct One<'a, A: Arguments> {
    slots: &'a mut A::Slots,
    at: usize,
    name: &'static str,
    of: PhantomData<A>,
}

impl<'de, A: Arguments> DeserializeSeed<'de> for One<'_, A> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<(), D::Error> {
        let named = |e: D::Error| D::Error::custom(format_args!("{}: {e}", self.name));
        A::set(self.slots, self.at, from).map_err(named)
    }
}

/// What was not given: nothing, where that is a value.
struct Missing;

impl<'de> Deserializer<'de> for Missing {
    type Error = serde::de::value::Error;

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Self::Error> {
        Err(Error::custom("missing"))
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Self::Error> {
        visitor.visit_none()
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit
        unit_struct newtype_struct seq tuple tuple_struct map struct enum identifier ignored_any
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;
    use rhd_protocol::frame;
    use serde_json::{Value, json};

    use super::*;

    type Three = (u64, String, Option<bool>);

    fn read(codec: Codec, body: &Value) -> Result<Three, String> {
        let mut bytes = Vec::new();
        write(codec, body, &mut bytes).unwrap();
        arguments(Input { codec, body: &bytes }, &["n", "text", "flag"]).map_err(|e| e.message)
    }

    #[test]
    fn arguments_come_by_position_by_name_or_not_at_all() {
        for codec in [Codec::Msgpack, Codec::Json] {
            let three = (7, "a".to_owned(), Some(true));
            assert_eq!(read(codec, &json!([[7, "a", true], {}])), Ok(three.clone()));
            assert_eq!(read(codec, &json!([[7], {"flag": true, "text": "a"}])), Ok(three.clone()));
            assert_eq!(
                read(codec, &json!([[], {"flag": null, "n": 1, "text": ""}])),
                Ok((1, String::new(), None))
            );
            assert_eq!(read(codec, &json!([[7, "a"]])), Ok((7, "a".to_owned(), None)));
        }
        let none = Input { codec: Codec::Msgpack, body: b"" };
        assert!(arguments::<()>(none, &[]).is_ok());
        assert!(arguments::<(Option<u8>,)>(none, &["x"]).is_ok());
    }

    #[test]
    fn numbers_and_bytes_of_another_language_are_taken() {
        let int = frame::to_vec(&((3,), BTreeMap::<String, ()>::new())).unwrap();
        let input = Input { codec: Codec::Msgpack, body: &int };
        assert_eq!(arguments::<(f64,)>(input, &["x"]).unwrap(), (3.0,));
        assert_eq!(arguments::<(f32,)>(input, &["x"]).unwrap(), (3.0,));
        // What Python sends for b"ab".
        let bytes = b"\x92\x91\xc4\x02ab\x80";
        let input = Input { codec: Codec::Msgpack, body: bytes };
        assert_eq!(arguments::<(Vec<u8>,)>(input, &["x"]).unwrap(), (b"ab".to_vec(),));
        let float = b"\x92\x91\xcb\x40\x08\0\0\0\0\0\0\x80";
        let input = Input { codec: Codec::Msgpack, body: float };
        assert!(arguments::<(u64,)>(input, &["x"]).is_err(), "3.0 is no integer");
    }

    #[test]
    fn what_does_not_fit_is_named() {
        for codec in [Codec::Msgpack, Codec::Json] {
            let wrong = |body: Value, says: &str| {
                let error = read(codec, &body).unwrap_err();
                assert!(error.contains(says), "{error}");
            };
            wrong(json!([[7], {}]), "text is missing");
            wrong(json!([["x", "a"], {}]), "n: no u64: ");
            wrong(json!([[-1, "a"], {}]), "n: no u64: ");
            wrong(json!([[1, "a", null, 4, 5], {}]), "5 were given, it takes 3");
            wrong(json!([[1, "a"], {"m": 1}]), "none named \"m\"");
            wrong(json!([[1, "a"], {"n": 1}]), "n was given twice");
            wrong(json!({}), "");
            wrong(json!([]), "there are none");
        }
        let pickle = Input { codec: Codec::Pickle, body: b"x" };
        assert!(arguments::<()>(pickle, &[]).unwrap_err().hint.contains("msgpack"));
    }

    #[test]
    fn nesting_ends_with_an_error_not_the_stack() {
        let deep = [&[0x92][..], &vec![0x91; 100_000]].concat();
        let input = Input { codec: Codec::Msgpack, body: &deep };
        assert!(arguments::<(Value,)>(input, &["x"]).is_err());
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(body in proptest::collection::vec(any::<u8>(), 0..200)) {
            for codec in [Codec::Msgpack, Codec::Json, Codec::Pickle] {
                let input = Input { codec, body: &body };
                let _ = arguments::<(u8, BTreeMap<String, Value>)>(input, &["a", "b"]);
                let _ = arguments::<(Vec<String>, Option<f64>)>(input, &["a", "b"]);
            }
        }
    }
}
