//! The form in which the server keeps `jsonb`. Databases have it on disk: it stays as it is.
//!
//! A container begins with a word that says what it is and how many children it has. A word for each child follows, which says
//! of what kind it is and how long, or in each 32nd place where it ends; then come the children themselves. Those of an object are
//! its names, shorter ones first, and then the values in the same order. Numbers and containers begin at multiples of four.

use super::{DEEPEST, Json, numeric, numeric_of_float, spelling};
use pgrx::pg_sys::{
    JB_CMASK, JB_FARRAY, JB_FOBJECT, JB_FSCALAR, JB_OFFSET_STRIDE, JENTRY_HAS_OFF, JENTRY_ISBOOL_FALSE,
    JENTRY_ISBOOL_TRUE, JENTRY_ISCONTAINER, JENTRY_ISNULL, JENTRY_ISNUMERIC, JENTRY_ISSTRING, JENTRY_OFFLENMASK,
    JENTRY_TYPEMASK,
};
use pgrx::{PgLogLevel, PgSqlErrorCode, ereport, pg_sys};
use slotkeeper_core::request::Tree;
use std::borrow::Cow;

const WORD: usize = 4;

fn word(bytes: &[u8], at: usize) -> u32 {
    match bytes.get(at..at + WORD) {
        Some(&[a, b, c, d]) => u32::from_ne_bytes([a, b, c, d]),
        _ => 0,
    }
}

fn aligned(at: usize) -> usize {
    at.next_multiple_of(WORD)
}

/// A value inside a jsonb.
#[derive(Clone)]
pub(crate) enum Part<'a> {
    Null,
    Bool(bool),
    /// In JSON's spelling.
    Number(String),
    Text(Cow<'a, str>),
    List(Container<'a>),
    Object(Container<'a>),
}

impl<'a> Part<'a> {
    /// # Safety
    /// These must be the bytes of a jsonb behind its length word.
    pub(super) unsafe fn root(bytes: &'a [u8]) -> Self {
        let root = Container(bytes);
        if word(bytes, 0) & JB_FSCALAR != 0 {
            return root.elements().next().unwrap_or(Self::Null);
        }
        root.part()
    }

    /// A copy; none where it is nested too deeply.
    pub(super) fn tree(self, depth: usize) -> Option<Tree> {
        Some(match self {
            Self::Null => Tree::Null,
            Self::Bool(value) => Tree::Bool(value),
            Self::Number(spelling) => Tree::Number(spelling),
            Self::Text(text) => Tree::Text(text.into_owned()),
            Self::List(_) | Self::Object(_) if depth == DEEPEST => return None,
            Self::List(list) => Tree::List(
                list.elements()
                    .map(|part| part.tree(depth + 1))
                    .collect::<Option<_>>()?,
            ),
            Self::Object(object) => {
                let members = object
                    .members()
                    .map(|(name, part)| Some((name.into_owned(), part.tree(depth + 1)?)));
                Tree::Object(members.collect::<Option<_>>()?)
            }
        })
    }
}

/// An array or object inside a jsonb.
#[derive(Clone, Copy)]
pub(crate) struct Container<'a>(&'a [u8]);

impl<'a> Container<'a> {
    fn part(self) -> Part<'a> {
        if word(self.0, 0) & JB_FOBJECT != 0 {
            Part::Object(self)
        } else {
            Part::List(self)
        }
    }

    /// How many elements or members it has.
    pub(crate) fn len(self) -> usize {
        (word(self.0, 0) & JB_CMASK) as usize
    }

    fn children(self, count: usize) -> Children<'a> {
        Children {
            bytes: self.0,
            data: WORD + count * WORD,
            next: 0,
            count,
            end: 0,
        }
    }

    /// The elements of an array.
    pub(crate) fn elements(self) -> impl Iterator<Item = Part<'a>> {
        self.children(self.len())
    }

    /// The members of an object.
    pub(crate) fn members(self) -> impl Iterator<Item = (Cow<'a, str>, Part<'a>)> {
        let count = self.len();
        let mut values = self.children(2 * count);
        let names = Children {
            count,
            ..values.clone()
        };
        for _ in 0..count {
            values.step();
        }
        names.zip(values).map(|(name, value)| match name {
            Part::Text(name) => (name, value),
            _ => (Cow::Borrowed(""), value),
        })
    }
}

/// What is left of a container's children.
#[derive(Clone)]
struct Children<'a> {
    bytes: &'a [u8],
    /// Where the first begins.
    data: usize,
    next: usize,
    count: usize,
    /// Where the last one ended, from `data` on.
    end: usize,
}

impl<'a> Children<'a> {
    /// The next child's kind and bytes.
    fn step(&mut self) -> (u32, &'a [u8]) {
        let entry = word(self.bytes, WORD + self.next * WORD);
        let (kind, length) = (entry & JENTRY_TYPEMASK, (entry & JENTRY_OFFLENMASK) as usize);
        let start = self.end;
        self.end = if entry & JENTRY_HAS_OFF != 0 {
            length
        } else {
            start + length
        };
        self.next += 1;
        let mut from = self.data + start;
        if matches!(kind, JENTRY_ISNUMERIC | JENTRY_ISCONTAINER) {
            from = aligned(from);
        }
        (kind, self.bytes.get(from..self.data + self.end).unwrap_or_default())
    }
}

impl<'a> Iterator for Children<'a> {
    type Item = Part<'a>;

    fn next(&mut self) -> Option<Part<'a>> {
        if self.next == self.count {
            return None;
        }
        let (kind, bytes) = self.step();
        Some(match kind {
            JENTRY_ISSTRING => Part::Text(String::from_utf8_lossy(bytes)),
            // SAFETY: these are the bytes of a number, and begin where one may.
            JENTRY_ISNUMERIC => Part::Number(unsafe { spelling(bytes) }),
            JENTRY_ISBOOL_TRUE => Part::Bool(true),
            JENTRY_ISBOOL_FALSE => Part::Bool(false),
            JENTRY_ISCONTAINER => Container(bytes).part(),
            _ => Part::Null,
        })
    }
}

/// A jsonb that is being written.
pub(super) struct Writer(Vec<u8>);

/// A container that is being written.
struct Open {
    /// Where it begins, what aligns it included.
    start: usize,
    /// Where the words of its children are, and the children themselves.
    words: usize,
    data: usize,
    /// How many it has so far.
    children: usize,
}

impl Writer {
    /// The length word is written at the end.
    pub(super) fn new() -> Self {
        let mut bytes = Vec::with_capacity(512);
        bytes.resize(WORD, 0);
        Self(bytes)
    }

    pub(super) fn finish(mut self) -> pg_sys::Datum {
        let length = self.0.len();
        // SAFETY: the bytes begin with the length word; the copy is made in the current memory context.
        unsafe {
            pgrx::varlena::set_varsize_4b(self.0.as_mut_ptr().cast(), length as i32);
            let copy: *mut u8 = pg_sys::palloc(length).cast();
            std::ptr::copy_nonoverlapping(self.0.as_ptr(), copy, length);
            pg_sys::Datum::from(copy)
        }
    }

    /// Writes a whole value, with which a jsonb begins.
    pub(super) fn root(&mut self, json: &mut Json) {
        match json {
            Json::List(_) | Json::Object(_) => drop(self.value(json)),
            scalar => {
                let mut open = self.open(JB_FARRAY | JB_FSCALAR, 1, 1);
                let entry = self.value(scalar);
                self.add(&mut open, entry);
            }
        }
    }

    /// Writes an object whose member `name` is a list of so many elements, each written as it comes.
    pub(super) fn root_with_list(
        &mut self,
        members: &mut [(Cow<'static, str>, Json)],
        name: &str,
        count: usize,
        mut elements: impl Iterator<Item = Json>,
    ) {
        let mut list = |writer: &mut Self| {
            let mut open = writer.open(JB_FARRAY, count, count);
            for _ in 0..count {
                let entry = writer.value(&mut elements.next().unwrap_or(Json::Null));
                writer.add(&mut open, entry);
            }
            writer.close(&open)
        };
        self.object(members, |writer, this, value| {
            if this == name {
                list(writer)
            } else {
                writer.value(value)
            }
        });
    }

    /// Writes a value; returns its kind and length.
    fn value(&mut self, json: &mut Json) -> u32 {
        match json {
            Json::Null => JENTRY_ISNULL,
            Json::Bool(true) => JENTRY_ISBOOL_TRUE,
            Json::Bool(false) => JENTRY_ISBOOL_FALSE,
            Json::Text(text) => self.text(text),
            // SAFETY: makes a numeric in the current memory context.
            Json::Int(value) => self.number(unsafe { pg_sys::int64_to_numeric(*value) }.cast()),
            Json::Float(value) => match numeric_of_float(*value) {
                Some(number) => self.number(number.cast_mut_ptr()),
                None => JENTRY_ISNULL,
            },
            Json::Number(spelling) => match numeric(spelling) {
                Some(number) => self.number(number.cast_mut_ptr()),
                None => self.text(spelling),
            },
            Json::Raw(jsonb) => self.raw(jsonb.bytes()),
            Json::List(list) => {
                let mut open = self.open(JB_FARRAY, list.len(), list.len());
                for element in list {
                    let entry = self.value(element);
                    self.add(&mut open, entry);
                }
                self.close(&open)
            }
            Json::Object(members) => self.object(members, |writer, _, value| writer.value(value)),
        }
    }

    fn object(
        &mut self,
        members: &mut [(Cow<'static, str>, Json)],
        mut write: impl FnMut(&mut Self, &str, &mut Json) -> u32,
    ) -> u32 {
        // Each name is there once.
        members.sort_unstable_by(|(a, _), (b, _)| (a.len(), a).cmp(&(b.len(), b)));
        let mut open = self.open(JB_FOBJECT, members.len(), 2 * members.len());
        for (name, _) in members.iter() {
            let entry = self.text(name);
            self.add(&mut open, entry);
        }
        for (name, value) in members {
            let entry = write(self, name, value);
            self.add(&mut open, entry);
        }
        self.close(&open)
    }

    fn text(&mut self, text: &str) -> u32 {
        self.0.extend_from_slice(text.as_bytes());
        JENTRY_ISSTRING | length(text.len())
    }

    fn number(&mut self, numeric: *const pg_sys::varlena) -> u32 {
        // SAFETY: a numeric is a varlena, of which all bytes are read.
        let bytes = unsafe { std::slice::from_raw_parts(numeric.cast::<u8>(), pgrx::varlena::varsize_any(numeric)) };
        self.whole(JENTRY_ISNUMERIC, bytes)
    }

    /// A number or container, of which these are the bytes.
    fn whole(&mut self, kind: u32, bytes: &[u8]) -> u32 {
        let start = self.0.len();
        self.align();
        self.0.extend_from_slice(bytes);
        kind | length(self.0.len() - start)
    }

    /// What is another jsonb by itself.
    fn raw(&mut self, bytes: &[u8]) -> u32 {
        if word(bytes, 0) & JB_FSCALAR == 0 {
            return self.whole(JENTRY_ISCONTAINER, bytes);
        }
        match Container(bytes).children(1).step() {
            (JENTRY_ISNUMERIC, bytes) => self.whole(JENTRY_ISNUMERIC, bytes),
            (kind, bytes) => {
                self.0.extend_from_slice(bytes);
                kind | length(bytes.len())
            }
        }
    }

    fn align(&mut self) {
        self.0.resize(aligned(self.0.len()), 0);
    }

    /// Begins a container: `count` is what its word says, `children` how many words follow.
    fn open(&mut self, kind: u32, count: usize, children: usize) -> Open {
        let start = self.0.len();
        self.align();
        self.0.extend_from_slice(&(kind | length(count)).to_ne_bytes());
        let words = self.0.len();
        let data = words + children * WORD;
        self.0.resize(data, 0);
        Open {
            start,
            words,
            data,
            children: 0,
        }
    }

    /// The child that was written last.
    fn add(&mut self, open: &mut Open, mut entry: u32) {
        let end = length(self.0.len() - open.data);
        if open.children.is_multiple_of(JB_OFFSET_STRIDE as usize) {
            entry = (entry & JENTRY_TYPEMASK) | end | JENTRY_HAS_OFF;
        }
        let at = open.words + open.children * WORD;
        if let Some(place) = self.0.get_mut(at..at + WORD) {
            place.copy_from_slice(&entry.to_ne_bytes());
        }
        open.children += 1;
    }

    fn close(&self, open: &Open) -> u32 {
        JENTRY_ISCONTAINER | length(self.0.len() - open.start)
    }
}

/// A length or number, as far as there is room for one.
fn length(of: usize) -> u32 {
    match u32::try_from(of) {
        Ok(length) if length <= JENTRY_OFFLENMASK => length,
        _ => {
            ereport!(
                PgLogLevel::ERROR,
                PgSqlErrorCode::ERRCODE_PROGRAM_LIMIT_EXCEEDED,
                "a reply is too large",
                format!("A jsonb has room for {JENTRY_OFFLENMASK} bytes.")
            );
            JENTRY_OFFLENMASK
        }
    }
}
