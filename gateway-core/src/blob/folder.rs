use std::fs::{self, File, OpenOptions};
use std::io::{self, BufReader, ErrorKind, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use futures::StreamExt as _;
use futures::stream;

use super::{Blob, BlobEntry, BlobError, BlobId, BlobInfo, BlobStore, BlobWriter};

/// What is read at a time, in octets
const PART: usize = 64 * 1024;

/// The longest description of an attachment in its file, in octets
const MAX_HEAD: usize = 64 * 1024;

/// What was begun so long ago is not being written any more
const ABANDONED: Duration = Duration::from_secs(24 * 60 * 60);

/// Attachments as files in a folder
///
/// A file begins with a line of JSON that describes the attachment; its content follows. It is written under another name,
/// synced, and renamed: a crash leaves either all of it or nothing that has an identity. Several nodes may share a
/// folder. Files are readable by their owner only.
#[derive(Clone, Debug)]
pub struct FolderBlobs {
    folder: PathBuf,
}

impl FolderBlobs {
    /// The folder at `path`, which is made if it is missing; removes what was begun and not finished for a day
    ///
    /// Blocks while it does so; meant for start-up.
    ///
    /// # Errors
    ///
    /// [`BlobError::Unavailable`] where the folder cannot be made or read.
    pub fn open(path: impl Into<PathBuf>) -> Result<Self, BlobError> {
        let blobs = Self { folder: path.into() };
        make_folder(&blobs.unfinished())?;
        for entry in fs::read_dir(blobs.unfinished())? {
            let entry = entry?;
            let modified = entry.metadata().and_then(|about| about.modified());
            if modified.is_ok_and(|at| at.elapsed().is_ok_and(|age| age > ABANDONED)) {
                fs::remove_file(entry.path())?;
            }
        }
        Ok(blobs)
    }

    fn unfinished(&self) -> PathBuf {
        self.folder.join("unfinished")
    }

    /// In one of 256 folders, so that none gets too long
    fn path(&self, id: BlobId) -> PathBuf {
        let name = id.to_string();
        let (folder, _) = name.split_at(2);
        self.folder.join(folder).join(&name)
    }

    fn entries(&self, after: Option<BlobId>, limit: usize) -> Result<Vec<BlobEntry>, BlobError> {
        let first = after.map_or(0, |after| after.octets()[0]);
        let mut found = Vec::new();
        for folder in first..=u8::MAX {
            for id in ids(&self.folder.join(format!("{folder:02x}")))? {
                if found.len() == limit {
                    return Ok(found);
                }
                if after.is_none_or(|after| id > after) {
                    found.extend(self.entry(id)?);
                }
            }
        }
        Ok(found)
    }

    /// `None` where it has gone meanwhile, or is damaged
    fn entry(&self, id: BlobId) -> Result<Option<BlobEntry>, BlobError> {
        let file = match File::open(self.path(id)) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let modified = file.metadata()?.modified()?;
        let age = modified.duration_since(UNIX_EPOCH).unwrap_or_default();
        let time = u64::try_from(age.as_millis()).unwrap_or(u64::MAX);
        match read_head(file) {
            Ok((about, ..)) => Ok(Some(BlobEntry::new(id, about.conversation, time))),
            Err(BlobError::Damaged(problem)) => {
                tracing::warn!(%id, problem, "an attachment is damaged");
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }
}

#[async_trait]
impl BlobStore for FolderBlobs {
    async fn create(&self, about: BlobInfo) -> Result<Box<dyn BlobWriter>, BlobError> {
        let blobs = self.clone();
        blocking(move || {
            let id = BlobId::generate()?;
            let path = blobs.unfinished().join(id.to_string());
            let mut options = OpenOptions::new();
            options.write(true).create_new(true);
            #[cfg(unix)]
            std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
            let mut file = options.open(&path)?;
            // From here on it is removed unless it is finished.
            let unfinished = Unfinished(Some(path));
            let mut head = serde_json::to_vec(&about).map_err(io::Error::other)?;
            head.push(b'\n');
            file.write_all(&head)?;
            let writer = Writer { file: Some(file), unfinished, path: blobs.path(id), id };
            Ok(Box::new(writer) as Box<dyn BlobWriter>)
        })
        .await
    }

    async fn open(&self, id: BlobId) -> Result<Option<Blob>, BlobError> {
        let path = self.path(id);
        let opened = blocking(move || match File::open(&path) {
            Ok(file) => read_head(file).map(Some),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error.into()),
        });
        let Some((about, size, file)) = opened.await? else { return Ok(None) };
        let content = stream::try_unfold(file, |mut file| async {
            blocking(move || {
                let mut part = BytesMut::zeroed(PART);
                let read = file.read(&mut part)?;
                part.truncate(read);
                Ok((read > 0).then(|| (part.freeze(), file)))
            })
            .await
        });
        Ok(Some(Blob::new(about, size, content.boxed())))
    }

    async fn remove(&self, id: BlobId) -> Result<bool, BlobError> {
        let path = self.path(id);
        blocking(move || match fs::remove_file(path) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error.into()),
        })
        .await
    }

    async fn list(&self, after: Option<BlobId>, limit: usize) -> Result<Vec<BlobEntry>, BlobError> {
        let blobs = self.clone();
        blocking(move || blobs.entries(after, limit)).await
    }
}

/// The files of a folder that have the name of an attachment, in its order
fn ids(folder: &Path) -> io::Result<Vec<BlobId>> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut ids = Vec::new();
    for entry in entries {
        ids.extend(entry?.file_name().to_str().and_then(|name| name.parse::<BlobId>().ok()));
    }
    ids.sort_unstable();
    Ok(ids)
}

/// Reads the description of an attachment; what is left of the file is its content
fn read_head(file: File) -> Result<(BlobInfo, u64, BufReader<File>), BlobError> {
    let damaged = |problem: &str| BlobError::Damaged(problem.to_owned());
    let length = file.metadata()?.len();
    let mut file = BufReader::new(file);
    let mut head = Vec::new();
    let mut limited = io::Read::take(&mut file, MAX_HEAD as u64);
    io::BufRead::read_until(&mut limited, b'\n', &mut head)?;
    let json = head.strip_suffix(b"\n").ok_or_else(|| damaged("its description has no end"))?;
    let about = serde_json::from_slice(json).map_err(|error| damaged(&error.to_string()))?;
    Ok((about, length.saturating_sub(head.len() as u64), file))
}

/// Removes a file that was not finished
struct Unfinished(Option<PathBuf>);

impl Drop for Unfinished {
    fn drop(&mut self) {
        if let Some(path) = self.0.take()
            && let Err(error) = fs::remove_file(&path)
        {
            tracing::warn!(%error, "an unfinished attachment could not be removed");
        }
    }
}

struct Writer {
    /// `None` while a part is written, and after that failed
    file: Option<File>,
    unfinished: Unfinished,
    path: PathBuf,
    id: BlobId,
}

#[async_trait]
impl BlobWriter for Writer {
    async fn write(&mut self, part: Bytes) -> Result<(), BlobError> {
        let mut file = self.file.take().ok_or_else(broken)?;
        let written = blocking(move || {
            file.write_all(&part)?;
            Ok(file)
        });
        self.file = Some(written.await?);
        Ok(())
    }

    async fn finish(mut self: Box<Self>) -> Result<BlobId, BlobError> {
        let file = self.file.take().ok_or_else(broken)?;
        blocking(move || {
            file.sync_all()?;
            let Some(unfinished) = &self.unfinished.0 else { return Err(broken()) };
            let folder = self.path.parent().ok_or_else(broken)?;
            make_folder(folder)?;
            fs::rename(unfinished, &self.path)?;
            self.unfinished.0 = None;
            sync_folder(folder)?;
            Ok(self.id)
        })
        .await
    }
}

fn broken() -> BlobError {
    BlobError::Unavailable("an earlier part could not be written".to_owned())
}

/// Makes a folder that only its owner may read, and lets that survive a crash
fn make_folder(path: &Path) -> io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path)?;
    path.parent().map_or(Ok(()), sync_folder)
}

/// A name in a folder survives a crash only once the folder itself is on disk
fn sync_folder(path: &Path) -> io::Result<()> {
    if cfg!(unix) { File::open(path)?.sync_all() } else { Ok(()) }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, BlobError> + Send + 'static,
) -> Result<T, BlobError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|_| Err(BlobError::Unavailable("the runtime is shutting down".to_owned())))
}
