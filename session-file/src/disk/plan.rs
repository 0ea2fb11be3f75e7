//! What is to become of a file that is offered, given what is there already.

use super::{
    DiskError, DiskProblem, Folder, Partial,
    partial::{hash_front, sweep},
};
use crate::{File, FileName, HashAlgorithm, Hasher, hash::compare};
use std::sync::Arc;

/// What is done when another file has the name of one that arrives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Existing {
    /// The new one gets a number: `photo (1).jpg`
    #[default]
    Rename,
    /// The new one takes the place of the old one, once it is whole
    Overwrite,
    /// The new one is not received
    Skip,
}

/// What is to become of a file.
#[derive(Debug)]
pub enum Plan {
    /// It is received, from [`Partial::offset`] on.
    Receive(Box<Partial>),
    /// One of this name, size and date is there: if the sender's has this hash, nothing is sent.
    Compare(Hasher),
    /// One that has the hash that the sender names is there.
    Have,
    /// Another of this name is there, and stays.
    Skip,
}

/// Looks at what is there of an offered file. A part may be read and hashed, which takes its time. With `fresh`, what is
/// there is not gone on with: the sender's file is known to be another.
///
/// # Errors
/// [`DiskError`]; [`DiskProblem::Exists`] when somebody else receives it right now, for whom [`Partial::beside`] is another
/// way; [`DiskProblem::Folder`] when it would take the place of a folder, [`DiskProblem::Hidden`] when the folder
/// takes no such name.
pub fn plan(
    folder: &Arc<Folder>,
    name: &FileName,
    file: &File,
    modified: Option<(i64, u32)>,
    existing: Existing,
    fresh: bool,
) -> Result<Plan, DiskError> {
    folder.check_hidden(name)?;
    sweep(folder, name)?;
    let there = folder.meta(name.as_str())?;
    if let Some(meta) = there.filter(|meta| meta.is_file && file.size == Some(meta.size) && !fresh)
    {
        let algorithms = file.hashes.iter().filter_map(crate::Hash::algorithm);
        let algorithms = algorithms.chain([HashAlgorithm::Sha256]);
        let named = !file.hashes.is_empty();
        let same_date = modified.is_some_and(|(seconds, nanoseconds)| {
            seconds == meta.modified.0 && (nanoseconds == 0 || nanoseconds == meta.modified.1)
        });
        if named || same_date {
            let mut handle = folder.read(name.as_str())?;
            let hasher =
                hash_front(&mut handle, Hasher::new(algorithms), meta.size).map_err(|error| {
                    DiskError::io("read", folder.path().join(name.as_str()), &error)
                })?;
            match compare(&hasher.hashes(), &file.hashes) {
                Some((_, true)) => return Ok(Plan::Have),
                None if same_date && hasher.length() == meta.size => {
                    return Ok(Plan::Compare(hasher));
                }
                Some((_, false)) | None => {}
            }
        }
    }
    if there.is_some() && existing == Existing::Skip {
        return Ok(Plan::Skip);
    }
    if there.is_some_and(|meta| meta.is_folder) && existing == Existing::Overwrite {
        // None is thrown away for a file, with all that is in it.
        let path = folder.path().join(name.as_str());
        return Err(DiskError::new("overwrite", path, DiskProblem::Folder));
    }
    let mut partial = Partial::open(folder, name, file, fresh)?;
    partial.dress(None, modified);
    Ok(Plan::Receive(Box::new(partial)))
}
