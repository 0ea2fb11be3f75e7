//! Google's file share: what is offered, and how it is fetched (libjingle `talk/session/fileshare`; libjingle.md §5.3).
//!
//! The initiator offers files and folders in a manifest, and serves them over HTTP in the session's own channels; the
//! receiver asks for one after another, folders as tar archives, and for small pictures of images. This is what is said in
//! such a session: the description, the infos, and the paths of requests. What libjingle took silently is judged here: a
//! description without its parts is an error and not an empty one, and a name that is a path is no name.

use crate::{FileName, NameError};
use session_core::{Element, ElementRef, PeerError, SessionDescription};
use std::{fmt::Write as _, sync::Arc};

/// The namespace of shares: the session's type (libjingle `fileshare.cc`).
pub const SHARE: &str = "http://www.google.com/session/share";

/// Most items of a manifest.
pub const SHARE_ITEMS_MAX: usize = 1_024;

/// Most pixels of a preview, in either direction (libjingle `fileshare.cc`).
pub const PREVIEW_MAX: u32 = 1_024;

/// Pixels that an image can have, as far as it is believed (libjingle `fileshare.cc`).
const IMAGE: std::ops::RangeInclusive<u32> = 16..=32_768;

const PATH_MAX: usize = 1_024;

/// The description of a share: of the offer, or of its answer, which repeats nothing of the manifest.
///
/// ```
/// use session_core::SessionDescription;
/// use session_file::{Share, ShareItem, ShareKind};
///
/// let item = ShareItem { name: "beach.jpg".into(), size: Some(48_213), kind: ShareKind::Image { width: 1024, height: 768 } };
/// let share = Share::offer(vec![item], "/temporary/1/", "/temporary/2/").unwrap();
/// assert_eq!(Share::from_element(&share.to_element()), Ok(share.clone()));
/// assert_eq!(share.source(&share.items[0]).as_deref(), Some("/temporary/1/beach.jpg"));
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Share {
    /// What is offered; empty in an answer.
    pub items: Vec<ShareItem>,
    /// In front of the names of items, for requests; `None` in an answer.
    pub source_path: Option<Arc<str>>,
    /// The same for small pictures of images.
    pub preview_path: Option<Arc<str>>,
}

/// One thing that is offered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShareItem {
    /// Its name, which is no path: see [`file_name`](Self::file_name).
    pub name: Arc<str>,
    /// Its bytes; `None` when they are not known, which is usual for folders.
    pub size: Option<u64>,
    /// What it is.
    pub kind: ShareKind,
}

/// What a [`ShareItem`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ShareKind {
    /// A file.
    File,
    /// A file with a picture, of which a smaller one can be had.
    Image {
        /// Pixels across.
        width: u32,
        /// Pixels down.
        height: u32,
    },
    /// A folder, which travels as a tar archive.
    Folder,
}

/// An info within a share.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ShareInfo {
    /// The receiver has made a channel of this name, over which it will ask. A name that is there already is no new channel:
    /// a second `Channel` with it is to be refused (libjingle stops the program on it).
    Channel(Arc<str>),
    /// The receiver has everything.
    Complete,
}

/// What a request asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShareRequest {
    /// Which of the items.
    pub item: usize,
    /// The picture that is wanted instead of the item: at most so many pixels across and down.
    pub preview: Option<(u32, u32)>,
}

impl ShareItem {
    /// The name under which it may be kept in a directory of our choice.
    ///
    /// # Errors
    /// [`NameError`].
    pub fn file_name(&self) -> Result<FileName, NameError> {
        crate::sanitize_name(&self.name)
    }
}

impl Share {
    /// An offer of these items. The paths begin and end with a slash, and are hard to guess: who knows them gets the items.
    ///
    /// # Errors
    /// As those of reading it: what the peer would refuse is not offered.
    pub fn offer(items: Vec<ShareItem>, source: &str, preview: &str) -> Result<Self, PeerError> {
        if items.len() > SHARE_ITEMS_MAX {
            return Err(too_many());
        }
        if items.iter().any(|item| item.name.is_empty()) {
            return Err(malformed("name", "empty"));
        }
        Ok(Self {
            items,
            source_path: Some(path(source, "source-path")?),
            preview_path: Some(path(preview, "preview-path")?),
        })
    }

    /// The answer to any offer: HTTP is spoken.
    pub fn answer() -> Self {
        Self::default()
    }

    /// What to ask for to get an item; `None` where the description names no path.
    pub fn source(&self, item: &ShareItem) -> Option<String> {
        let path = self.source_path.as_ref()?;
        Some(format!("{path}{}", encode(&item.name)))
    }

    /// What to ask for to get a small picture of an image; `None` for anything else.
    pub fn preview(&self, item: &ShareItem, width: u32, height: u32) -> Option<String> {
        let path = self.preview_path.as_ref()?;
        if !matches!(item.kind, ShareKind::Image { .. }) {
            return None;
        }
        let (width, height) = (width.clamp(1, PREVIEW_MAX), height.clamp(1, PREVIEW_MAX));
        Some(format!(
            "{path}{}?width={width}&height={height}",
            encode(&item.name)
        ))
    }

    /// What a request for this target asks for; `None` when it is to be answered with 404.
    pub fn request(&self, target: &str) -> Option<ShareRequest> {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let named = |prefix: &Option<Arc<str>>| {
            let name = decode(path.strip_prefix(&**prefix.as_ref()?)?)?;
            self.items.iter().position(|item| *item.name == *name)
        };
        if let Some(item) = named(&self.source_path) {
            return Some(ShareRequest {
                item,
                preview: None,
            });
        }
        let item = named(&self.preview_path)?;
        if !matches!(self.items[item].kind, ShareKind::Image { .. }) {
            return None;
        }
        let pixels = |key: &str| {
            let mut fields = query.split('&').filter_map(|field| field.split_once('='));
            let (_, value) = fields.find(|(name, _)| *name == key)?;
            value
                .parse()
                .ok()
                .filter(|pixels| (1..=PREVIEW_MAX).contains(pixels))
        };
        Some(ShareRequest {
            item,
            preview: Some((pixels("width")?, pixels("height")?)),
        })
    }
}

impl SessionDescription for Share {
    const NAMESPACE: &'static str = SHARE;

    fn to_element(&self) -> Element {
        let item = |item: &ShareItem| {
            let name = match item.kind {
                ShareKind::Folder => "folder",
                ShareKind::File | ShareKind::Image { .. } => "file",
            };
            let element = Element::new(SHARE, name)
                .with_opt("size", item.size)
                .child(Element::new(SHARE, "name").text(&item.name));
            match item.kind {
                ShareKind::Image { width, height } => element.child(
                    Element::new(SHARE, "image")
                        .with("width", width)
                        .with("height", height),
                ),
                ShareKind::File | ShareKind::Folder => element,
            }
        };
        let url = |name: &str, path: &Option<Arc<str>>| {
            path.as_ref()
                .map(|path| Element::new(SHARE, "url").with("name", name).text(path))
        };
        let http = Element::new(SHARE, "http")
            .children_from(url("source-path", &self.source_path))
            .children_from(url("preview-path", &self.preview_path));
        Element::new(SHARE, "description")
            .child(Element::new(SHARE, "manifest").children_from(self.items.iter().map(item)))
            .child(Element::new(SHARE, "protocol").child(http))
    }

    fn from_element(element: &Element) -> Result<Self, PeerError> {
        let part = |name: &'static str| {
            element
                .find(SHARE, name)
                .ok_or_else(|| malformed(name, "missing"))
        };
        let mut share = Self::default();
        for child in part("manifest")?
            .children()
            .filter(|child| child.namespace() == SHARE)
        {
            let Some(item) = read_item(child)? else {
                continue;
            };
            if share.items.len() >= SHARE_ITEMS_MAX {
                return Err(too_many());
            }
            share.items.push(item);
        }
        let http = part("protocol")?.find(SHARE, "http");
        let http = http.ok_or_else(|| malformed("http", "missing"))?;
        for url in http.children().filter(|child| child.is(SHARE, "url")) {
            let text = url.text_content();
            match url.attribute("name") {
                Some("source-path") => share.source_path = Some(path(&text, "source-path")?),
                Some("preview-path") => share.preview_path = Some(path(&text, "preview-path")?),
                Some(_) | None => {}
            }
        }
        if !share.items.is_empty() && share.source_path.is_none() {
            return Err(malformed("source-path", "missing"));
        }
        Ok(share)
    }
}

impl ShareInfo {
    /// The element of the info.
    pub fn to_element(&self) -> Element {
        match self {
            Self::Channel(name) => Element::new(SHARE, "channel").with("name", name),
            Self::Complete => Element::new(SHARE, "complete"),
        }
    }

    /// The meaning of an element of an info; `None` when it is of something else.
    ///
    /// # Errors
    /// [`PeerError::Malformed`] for a channel without a name, or with one that libjingle does not give.
    pub fn from_element(element: ElementRef<'_>) -> Result<Option<Self>, PeerError> {
        if element.is(SHARE, "complete") {
            return Ok(Some(Self::Complete));
        }
        if !element.is(SHARE, "channel") {
            return Ok(None);
        }
        let name = element
            .attribute("name")
            .ok_or_else(|| malformed("name", "missing"))?;
        let number = name
            .strip_prefix("private-")
            .or_else(|| name.strip_prefix("proxy-"));
        let digits = number
            .is_some_and(|n| (1..=9).contains(&n.len()) && n.bytes().all(|b| b.is_ascii_digit()));
        if !digits {
            return Err(malformed("name", "not that of a channel"));
        }
        Ok(Some(Self::Channel(name.into())))
    }
}

/// One thing of a manifest; `None` for what is none, or has no name.
fn read_item(element: ElementRef<'_>) -> Result<Option<ShareItem>, PeerError> {
    let folder = match element.name() {
        "file" => false,
        "folder" => true,
        _ => return Ok(None),
    };
    let name = element.find(SHARE, "name").map(|name| name.text_content());
    let Some(name) = name.filter(|name| !name.is_empty()) else {
        return Ok(None);
    };
    if name.len() > PATH_MAX {
        return Err(malformed("name", "too long"));
    }
    let size = match element.attribute("size") {
        Some(size) => Some(
            size.parse()
                .map_err(|_| malformed("size", "not a number of 64 bits"))?,
        ),
        None => None,
    };
    let kind = match (folder, element.find(SHARE, "image")) {
        (true, _) => ShareKind::Folder,
        (false, Some(image)) => {
            let pixels = |key| {
                image
                    .attribute(key)?
                    .parse()
                    .ok()
                    .filter(|p| IMAGE.contains(p))
            };
            match (pixels("width"), pixels("height")) {
                (Some(width), Some(height)) => ShareKind::Image { width, height },
                // Nobody believes it, and it is still a file.
                _ => ShareKind::File,
            }
        }
        (false, None) => ShareKind::File,
    };
    Ok(Some(ShareItem {
        name: name.as_ref().into(),
        size,
        kind,
    }))
}

/// The path of a server, and nothing that leads to another.
fn path(text: &str, field: &'static str) -> Result<Arc<str>, PeerError> {
    let sound = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'?' | b'#' | b'%' | b'\\');
    let climbs = text.split('/').any(|part| part == "." || part == "..");
    if text.len() > PATH_MAX
        || !text.starts_with('/')
        || !text.ends_with('/')
        || text.starts_with("//")
    {
        return Err(malformed(
            field,
            "not a path that begins and ends with a slash",
        ));
    }
    if climbs || !text.bytes().all(sound) {
        return Err(malformed(field, "not a plain path"));
    }
    Ok(text.into())
}

fn encode(name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    for byte in name.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'~') {
            out.push(char::from(byte));
        } else {
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
}

fn decode(text: &str) -> Option<String> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b'%' => {
                let mut digit = || char::from(bytes.next()?).to_digit(16);
                out.push((digit()? * 16 + digit()?) as u8);
            }
            // libjingle's own encoding of a space.
            b'+' => out.push(b' '),
            other => out.push(other),
        }
    }
    String::from_utf8(out).ok()
}

fn malformed(field: &'static str, problem: &'static str) -> PeerError {
    PeerError::Malformed { field, problem }
}

fn too_many() -> PeerError {
    PeerError::TooMany {
        limit: "items",
        max: SHARE_ITEMS_MAX,
    }
}
