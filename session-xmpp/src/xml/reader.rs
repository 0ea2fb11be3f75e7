//! Bytes to an element.

use std::ops::Range;

use memchr::memmem;
use quick_xml::Reader;
use quick_xml::errors::{Error, IllFormedError, SyntaxError};
use quick_xml::events::Event;
use session_core::{Element, ElementLimit, ElementLimits, NamespaceId, TreeBuilder, TreeError};

use super::attributes::{self, RawAttribute, qualified_name};
use super::characters::{Survey, is_space, survey};
use super::context::Context;
use super::error::{XmlError, XmlErrorKind};
use super::{NS_XML, NS_XMLNS, references};

pub(super) fn parse(
    bytes: &[u8],
    context: &Context,
    limits: &ElementLimits,
) -> Result<Element, XmlError> {
    let mut parser = Parser::new(bytes, context, limits)?;
    parser.read()?;
    parser.finish()
}

pub(super) fn parse_header(
    bytes: &[u8],
    limits: &ElementLimits,
) -> Result<(Element, Context), XmlError> {
    let mut parser = Parser::new(bytes, &Context::NONE, limits)?;
    let context = parser.read_header()?;
    Ok((parser.finish()?, context))
}

struct Parser<'i> {
    input: &'i str,
    survey: Survey,
    reader: Reader<&'i [u8]>,
    builder: TreeBuilder,
    limits: &'i ElementLimits,
    /// What the input inherits.
    context: &'i Context,
    /// What the input declares and is in scope, innermost last.
    bindings: Vec<Binding>,
    /// Of the tag at hand; kept for its memory.
    attributes: Vec<RawAttribute>,
    /// For values that are not in the input as they are; kept for its memory.
    scratch: String,
    /// Whether the root was there.
    rooted: bool,
}

/// A namespace bound by an element that is open.
struct Binding {
    /// Where the prefix is in the input; empty for the default namespace.
    prefix: Range<usize>,
    namespace: NamespaceId,
    /// How many elements are open around the one that has the declaration.
    depth: usize,
}

impl<'i> Parser<'i> {
    fn new(
        bytes: &'i [u8],
        context: &'i Context,
        limits: &'i ElementLimits,
    ) -> Result<Self, XmlError> {
        // Before anything else, so that no pass over the input is longer than the limit.
        if bytes.len() > limits.bytes {
            return Err(XmlError::new(
                XmlErrorKind::Limit(ElementLimit::Bytes),
                limits.bytes,
            ));
        }
        let input = std::str::from_utf8(bytes)
            .map_err(|error| XmlError::new(XmlErrorKind::Utf8, error.valid_up_to()))?;
        let survey =
            survey(input).map_err(|(c, at)| XmlError::new(XmlErrorKind::Character(c), at))?;
        // Room for the one namespace that nearly all stanzas inherit.
        let mut source = String::with_capacity(input.len() + context.default_namespace().len());
        source.push_str(input);
        let builder = TreeBuilder::new(source, limits).map_err(|error| tree_error(error, 0))?;
        Ok(Self {
            input,
            survey,
            reader: Reader::from_str(input),
            builder,
            limits,
            context,
            bindings: Vec::new(),
            attributes: Vec::with_capacity(limits.attributes.min(16)),
            scratch: String::new(),
            rooted: false,
        })
    }

    fn read(&mut self) -> Result<(), XmlError> {
        // A reader takes U+FEFF at the start for a byte order mark, and does not count it. In XMPP it is text
        // (RFC 6120 §11.6).
        if self.input.starts_with('\u{feff}') {
            return Err(XmlError::new(XmlErrorKind::TextOutside, 0));
        }
        loop {
            let start = self.position();
            let event = self.reader.read_event();
            let range = start..self.position();
            match event {
                // Within `<` and `>`, or `<` and `/>`.
                Ok(Event::Start(tag)) => self.open(range.start + 1, tag.len())?,
                Ok(Event::Empty(tag)) => {
                    self.open(range.start + 1, tag.len())?;
                    self.close(range.start)?;
                }
                Ok(Event::End(_)) => self.close(range.start)?,
                Ok(Event::Text(_)) => self.text(range)?,
                Ok(Event::CData(_)) => self.cdata(range)?,
                Ok(Event::GeneralRef(_)) => self.reference(range)?,
                Ok(Event::Comment(_)) => {
                    return Err(XmlError::new(XmlErrorKind::Comment, range.start));
                }
                Ok(Event::DocType(_)) => {
                    return Err(XmlError::new(XmlErrorKind::Doctype, range.start));
                }
                Ok(Event::PI(_)) => {
                    return Err(XmlError::new(
                        XmlErrorKind::ProcessingInstruction,
                        range.start,
                    ));
                }
                Ok(Event::Decl(_)) => {
                    return Err(XmlError::new(XmlErrorKind::Declaration, range.start));
                }
                Ok(Event::Eof) => return Ok(()),
                Err(error) => return Err(self.tokenizer_error(&error)),
            }
        }
    }

    /// Reads one start tag (or empty element) that must be all of the input.
    fn read_header(&mut self) -> Result<Context, XmlError> {
        let event = self.reader.read_event();
        let (Ok(Event::Start(tag) | Event::Empty(tag)), true) =
            (&event, self.input.starts_with('<'))
        else {
            return Err(match event {
                Ok(_) => XmlError::new(XmlErrorKind::Tag, 0),
                Err(error) => self.tokenizer_error(&error),
            });
        };
        if self.position() != self.input.len() {
            return Err(XmlError::new(XmlErrorKind::Tag, self.position()));
        }
        self.open(1, tag.len())?;
        let context = self.declared();
        self.close(0)?;
        Ok(context)
    }

    fn finish(self) -> Result<Element, XmlError> {
        let end = self.input.len();
        self.builder
            .finish()
            .map_err(|error| tree_error(error, end))
    }

    /// The tag whose name and attributes are the `len` bytes at `start`.
    fn open(&mut self, start: usize, len: usize) -> Result<(), XmlError> {
        if self.rooted && self.builder.depth() == 0 {
            return Err(XmlError::new(XmlErrorKind::SecondRoot, start));
        }
        self.rooted = true;
        let (name, name_end) = qualified_name(self.input, start)?;
        let prefix = start..name.saturating_sub(1).max(start);
        // Taken out for the duration of this call, to be read while the rest of `self` is changed.
        let mut attributes = std::mem::take(&mut self.attributes);
        attributes.clear();
        attributes::scan(
            self.input,
            name_end..start + len,
            self.limits,
            &mut attributes,
        )?;
        // Declarations apply to the whole tag, wherever in it they stand.
        for attribute in attributes.iter().filter(|attribute| attribute.declaration) {
            self.declare(attribute)?;
        }
        let namespace = self.resolve(prefix)?;
        self.builder
            .open(namespace, name..name_end)
            .map_err(|error| tree_error(error, start))?;
        for attribute in attributes.iter().filter(|attribute| !attribute.declaration) {
            self.attribute(attribute)?;
        }
        self.attributes = attributes;
        Ok(())
    }

    fn close(&mut self, start: usize) -> Result<(), XmlError> {
        self.builder
            .close()
            .map_err(|error| tree_error(error, start))?;
        let depth = self.builder.depth();
        while self
            .bindings
            .last()
            .is_some_and(|binding| binding.depth >= depth)
        {
            self.bindings.pop();
        }
        Ok(())
    }

    fn attribute(&mut self, attribute: &RawAttribute) -> Result<(), XmlError> {
        let prefix = attribute.prefix();
        let namespace = if prefix.is_empty() {
            NamespaceId::NONE
        } else {
            self.resolve(prefix)?
        };
        let start = attribute.qualified_name().start;
        if self.normalize(attribute)? {
            self.builder
                .attribute_str(namespace, attribute.name(), &self.scratch)
        } else {
            self.builder
                .attribute(namespace, attribute.name(), attribute.value())
        }
        .map_err(|error| tree_error(error, start))
    }

    /// Puts the value of an attribute into `scratch`, unless it is in the input as it should be.
    fn normalize(&mut self, attribute: &RawAttribute) -> Result<bool, XmlError> {
        if !attribute.references && !self.survey.line_space {
            return Ok(false);
        }
        self.scratch.clear();
        let value = attribute.value();
        references::normalize_attribute(
            &self.input[value.clone()],
            value.start,
            &mut self.scratch,
        )?;
        Ok(true)
    }

    fn text(&mut self, range: Range<usize>) -> Result<(), XmlError> {
        let text = &self.input[range.clone()];
        if self.builder.depth() == 0 {
            return match text.bytes().position(|byte| !is_space(byte)) {
                Some(at) => Err(XmlError::new(XmlErrorKind::TextOutside, range.start + at)),
                None => Ok(()),
            };
        }
        if self.survey.bracket
            && let Some(at) = memmem::find(text.as_bytes(), b"]]>")
        {
            return Err(XmlError::new(XmlErrorKind::CDataEnd, range.start + at));
        }
        self.characters(range)
    }

    fn cdata(&mut self, range: Range<usize>) -> Result<(), XmlError> {
        self.check_inside(range.start)?;
        self.characters(range.start + "<![CDATA[".len()..range.end - "]]>".len())
    }

    fn characters(&mut self, range: Range<usize>) -> Result<(), XmlError> {
        let start = range.start;
        let text = &self.input[range.clone()];
        if self.survey.line_space && text.contains('\r') {
            self.scratch.clear();
            references::normalize_line_ends(text, &mut self.scratch);
            self.builder.text_str(&self.scratch)
        } else {
            self.builder.text(range)
        }
        .map_err(|error| tree_error(error, start))
    }

    fn reference(&mut self, range: Range<usize>) -> Result<(), XmlError> {
        self.check_inside(range.start)?;
        let character = references::resolve(&self.input[range.start + 1..range.end - 1])
            .map_err(|kind| XmlError::new(kind, range.start))?;
        self.builder
            .text_str(character.encode_utf8(&mut [0; 4]))
            .map_err(|error| tree_error(error, range.start))
    }

    fn check_inside(&self, position: usize) -> Result<(), XmlError> {
        if self.builder.depth() == 0 {
            return Err(XmlError::new(XmlErrorKind::TextOutside, position));
        }
        Ok(())
    }

    fn position(&self) -> usize {
        // A position in a slice.
        self.reader.buffer_position() as usize
    }

    fn tokenizer_error(&self, error: &Error) -> XmlError {
        let position = self.reader.error_position() as usize;
        let kind = match error {
            Error::Syntax(SyntaxError::UnclosedComment) => XmlErrorKind::Comment,
            Error::Syntax(SyntaxError::UnclosedDoctype)
            | Error::IllFormed(IllFormedError::MissingDoctypeName) => XmlErrorKind::Doctype,
            Error::Syntax(SyntaxError::UnclosedPI) => XmlErrorKind::ProcessingInstruction,
            Error::Syntax(SyntaxError::InvalidBangMarkup) => XmlErrorKind::Markup,
            Error::Syntax(SyntaxError::UnclosedXmlDecl) => XmlErrorKind::Declaration,
            Error::IllFormed(IllFormedError::UnclosedReference) => XmlErrorKind::Ampersand,
            Error::IllFormed(
                IllFormedError::MismatchedEndTag { .. } | IllFormedError::UnmatchedEndTag(_),
            ) => XmlErrorKind::EndTag,
            Error::Syntax(
                SyntaxError::UnclosedCData
                | SyntaxError::UnclosedTag
                | SyntaxError::UnclosedSingleQuotedAttributeValue
                | SyntaxError::UnclosedDoubleQuotedAttributeValue,
            )
            | Error::IllFormed(IllFormedError::MissingEndTag(_)) => XmlErrorKind::Incomplete,
            // Not from a slice that is UTF-8, with the settings above.
            Error::Io(_)
            | Error::IllFormed(
                IllFormedError::MissingDeclVersion(_)
                | IllFormedError::UnknownVersion
                | IllFormedError::DoubleHyphenInComment,
            )
            | Error::InvalidAttr(_)
            | Error::Encoding(_)
            | Error::Escape(_)
            | Error::Namespace(_) => XmlErrorKind::Markup,
        };
        XmlError::new(kind, position)
    }
}

/// Namespaces.
impl Parser<'_> {
    /// Binds the namespace that an attribute declares.
    fn declare(&mut self, attribute: &RawAttribute) -> Result<(), XmlError> {
        let prefix = if attribute.prefix().is_empty() {
            0..0
        } else {
            attribute.name()
        };
        let start = attribute.qualified_name().start;
        let error = |kind| XmlError::new(kind, start);
        let normalized = self.normalize(attribute)?;
        let value = if normalized {
            &*self.scratch
        } else {
            &self.input[attribute.value()]
        };
        let prefix_text = &self.input[prefix.clone()];
        if value.is_empty() && !prefix.is_empty() {
            return Err(error(XmlErrorKind::UnboundPrefix));
        }
        let is_xml = prefix_text == "xml";
        if is_xml != (value == NS_XML) || value == NS_XMLNS || prefix_text == "xmlns" {
            return Err(error(XmlErrorKind::ReservedNamespace));
        }
        let depth = self.builder.depth();
        let twice = |binding: &Binding| self.input[binding.prefix.clone()] == *prefix_text;
        let mut of_this_tag = self.bindings.iter().rev().take_while(|b| b.depth == depth);
        if of_this_tag.any(twice) {
            return Err(error(XmlErrorKind::DuplicateAttribute));
        }
        if self.bindings.len() >= self.limits.namespaces {
            return Err(error(XmlErrorKind::Limit(ElementLimit::Namespaces)));
        }
        let namespace = if normalized {
            self.builder.namespace(&self.scratch)
        } else {
            self.builder.namespace_at(attribute.value())
        }
        .map_err(|error| tree_error(error, start))?;
        self.bindings.push(Binding {
            prefix,
            namespace,
            depth,
        });
        Ok(())
    }

    /// The namespace bound to the prefix at `prefix`, or the default one if that is empty.
    fn resolve(&mut self, prefix: Range<usize>) -> Result<NamespaceId, XmlError> {
        let start = prefix.start;
        let prefix = &self.input[prefix];
        let declared = |binding: &&Binding| self.input[binding.prefix.clone()] == *prefix;
        if let Some(binding) = self.bindings.iter().rev().find(declared) {
            return Ok(binding.namespace);
        }
        let inherited = match prefix {
            "" => self.context.default_namespace(),
            "xml" => NS_XML,
            _ => self
                .context
                .namespace_of(prefix)
                .ok_or_else(|| XmlError::new(XmlErrorKind::UndeclaredPrefix, start))?,
        };
        self.builder
            .namespace(inherited)
            .map_err(|error| tree_error(error, start))
    }

    /// What the open element declares, as a context for others.
    fn declared(&self) -> Context {
        let namespace = |binding: &Binding| {
            self.builder
                .namespace_name(binding.namespace)
                .unwrap_or_default()
                .to_owned()
        };
        let default = self
            .bindings
            .iter()
            .find(|binding| binding.prefix.is_empty());
        let prefixes = self
            .bindings
            .iter()
            .filter(|binding| !binding.prefix.is_empty());
        Context::new(
            default.map(namespace).unwrap_or_default(),
            prefixes.map(|b| (self.input[b.prefix.clone()].to_owned(), namespace(b))),
        )
    }
}

/// The builder is only called with ranges of the input and in the order of the input, so the errors about that do not
/// occur.
fn tree_error(error: TreeError, position: usize) -> XmlError {
    let kind = match error {
        TreeError::Limit(limit) => XmlErrorKind::Limit(limit),
        TreeError::DuplicateAttribute => XmlErrorKind::DuplicateAttribute,
        TreeError::SecondRoot => XmlErrorKind::SecondRoot,
        TreeError::NoElement => XmlErrorKind::EndTag,
        TreeError::Unfinished
        | TreeError::Range { .. }
        | TreeError::UnknownNamespace
        | TreeError::LateAttribute => XmlErrorKind::Incomplete,
    };
    XmlError::new(kind, position)
}
