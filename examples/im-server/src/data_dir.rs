//! The folder that holds everything the server keeps.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

/// The data folder, held by this process alone for as long as the value lives.
#[derive(Debug)]
pub(crate) struct DataDir {
    path: PathBuf,
    /// The system drops the lock when the process ends, however it ends.
    _lock: File,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum DataDirError {
    #[error(
        "cannot make the data folder {}: {source}; name another one with --data", path.display()
    )]
    Create { path: PathBuf, source: io::Error },
    #[error(
        "cannot write in the data folder {}: {source}; correct its owner and permissions, or name \
         another folder with --data", path.display()
    )]
    Write { path: PathBuf, source: io::Error },
    #[error(
        "the data folder {} is in use by another running im-server; stop that one, or name \
         another folder with --data", .0.display()
    )]
    InUse(PathBuf),
}

impl DataDir {
    /// Makes the folder if missing, readable by its owner only, and locks it.
    pub(crate) fn open(path: &Path) -> Result<Self, DataDirError> {
        create(path).map_err(|source| DataDirError::Create { path: path.to_owned(), source })?;
        let write_error = |source| DataDirError::Write { path: path.to_owned(), source };
        let path = fs::canonicalize(path).map_err(write_error)?;
        let lock = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(path.join("lock"))
            .map_err(write_error)?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { path, _lock: lock }),
            Err(TryLockError::WouldBlock) => Err(DataDirError::InUse(path)),
            Err(TryLockError::Error(source)) => Err(write_error(source)),
        }
    }

    /// The absolute path.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

#[cfg(unix)]
fn create(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path)
}

#[cfg(not(unix))]
fn create(path: &Path) -> io::Result<()> {
    fs::create_dir_all(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_belongs_to_one_server_at_a_time() {
        let parent = tempfile::tempdir().expect("temporary folder");
        let path = parent.path().join("data");
        let first = DataDir::open(&path).expect("first");
        assert!(matches!(DataDir::open(&path), Err(DataDirError::InUse(_))));
        drop(first);
        DataDir::open(&path).expect("free again");
    }

    #[cfg(unix)]
    #[test]
    fn a_new_folder_is_closed_to_other_users() {
        use std::os::unix::fs::PermissionsExt;
        let parent = tempfile::tempdir().expect("temporary folder");
        let path = parent.path().join("data");
        let _dir = DataDir::open(&path).expect("open");
        let mode = fs::metadata(&path).expect("metadata").permissions().mode();
        assert_eq!(mode & 0o777, 0o700);
    }

    #[test]
    fn a_file_in_the_way_is_named() {
        let file = tempfile::NamedTempFile::new().expect("temporary file");
        let error = DataDir::open(file.path()).expect_err("a file is no folder");
        assert!(error.to_string().contains("--data"), "{error}");
    }
}
