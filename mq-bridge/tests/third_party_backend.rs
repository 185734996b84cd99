//! A backend as a third party would write it, and its proof: docs/write-a-backend.md walks through
//! it. Every change goes to the end of a log file, and what is there is read again at the start.

use std::collections::{BTreeMap, HashMap};
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use mq_bridge::storage::{Change, Kept, Page, Storage, StorageBroker, StorageOptions, Written};
use mq_bridge::{BrokerError, Declaration, Source};

/// Each write is a record: its length, and in it each change behind its length.
struct LogFile {
    file: File,
    end: u64,
    declared: HashMap<Source, Declaration>,
    entries: BTreeMap<(Source, u64), Slot>,
}

/// Where in the log the change is that stored an entry.
struct Slot {
    at: u64,
    len: usize,
    deliveries: u32,
}

/// The octets behind a length, and what comes after; `None` if the end is missing.
fn split(octets: &[u8]) -> Option<(&[u8], &[u8])> {
    let (len, rest) = octets.split_first_chunk()?;
    rest.split_at_checked(usize::try_from(u64::from_le_bytes(*len)).ok()?)
}

fn append(log: &mut Vec<u8>, octets: &[u8]) {
    log.extend_from_slice(&(octets.len() as u64).to_le_bytes());
    log.extend_from_slice(octets);
}

impl LogFile {
    fn open(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().read(true).append(true).create(true).open(path)?;
        Ok(Self { file, end: 0, declared: HashMap::new(), entries: BTreeMap::new() })
    }

    /// Notes the changes of a record that begins at the end of what is known.
    fn note(&mut self, record: &[u8]) -> io::Result<()> {
        let (mut changes, mut at) = (record, self.end + 8);
        while let Some((octets, rest)) = split(changes) {
            let (change, len) = (Change::decode(octets).map_err(io::Error::other)?, octets.len());
            match change {
                Change::Declare(one) => drop(self.declared.insert(one.source(), one)),
                Change::Delete(source) => {
                    self.declared.remove(&source);
                    self.entries.retain(|(of, _), _| *of != source);
                }
                Change::Store { places, .. } => {
                    self.entries.extend(places.into_iter().map(|place| {
                        let slot = Slot { at: at + 8, len, deliveries: place.deliveries };
                        ((place.source, place.id), slot)
                    }));
                }
                Change::Remove { source, ids } => ids.into_iter().for_each(|id| {
                    self.entries.remove(&(source.clone(), id));
                }),
                Change::Count { source, counts } => {
                    for (id, count) in counts {
                        let slot = self.entries.get_mut(&(source.clone(), id));
                        slot.into_iter().for_each(|slot| slot.deliveries = count);
                    }
                }
            }
            (changes, at) = (rest, at + 8 + len as u64);
        }
        self.end += 8 + record.len() as u64;
        Ok(())
    }
}

impl Storage for LogFile {
    type Error = io::Error;

    fn load(&mut self) -> io::Result<Kept> {
        let mut log = Vec::new();
        self.file.read_to_end(&mut log)?;
        let mut rest = &log[..];
        while let Some((record, after)) = split(rest) {
            self.note(record)?;
            rest = after;
        }
        // What a kill has cut short was never confirmed.
        self.file.set_len(self.end)?;
        let depth = |source: &Source| self.entries.keys().filter(|(of, _)| of == source).count();
        let sources = self.declared.values();
        let sources = sources.map(|one| (one.clone(), depth(&one.source()) as u64)).collect();
        Ok(Kept::new(sources, self.entries.keys().map(|(_, id)| *id).max().unwrap_or(0)))
    }

    fn write(&mut self, changes: &[Change]) -> io::Result<Written> {
        let (mut record, mut log) = (Vec::new(), Vec::new());
        let changes = changes.iter().flat_map(Change::per_place);
        changes.for_each(|change| append(&mut record, &change.encode()));
        append(&mut log, &record);
        let written = self.file.write_all(&log).and_then(|()| self.file.sync_data());
        written.or_else(|error| self.file.set_len(self.end).and(Err(error)))?;
        self.note(&record)?;
        Ok(Written::default())
    }

    fn read(&mut self, source: &Source, after: u64, page: &mut Page) -> io::Result<()> {
        let range = (source.clone(), after + 1)..=(source.clone(), u64::MAX);
        for slot in self.entries.range(range).map(|(_, slot)| slot) {
            let mut octets = vec![0; slot.len];
            self.file.read_exact_at(&mut octets, slot.at)?;
            let change = Change::decode(&octets).map_err(io::Error::other)?;
            let Change::Store { message, redelivered, places } = change else { continue };
            let mut entry = places[0].entry(&message, redelivered);
            entry.deliveries = slot.deliveries;
            if !page.push(entry) {
                break;
            }
        }
        Ok(())
    }
}

async fn open(folder: PathBuf) -> Result<StorageBroker, BrokerError> {
    let path = folder.join("queue.log");
    StorageBroker::open(move || LogFile::open(&path), StorageOptions::new()).await
}

mod conformance {
    mq_bridge::testkit::suite!(async {
        let folder = tempfile::tempdir().unwrap();
        let open = move || super::open(folder.path().to_owned());
        mq_bridge::testkit::StorageHarness::start(open).await
    });
}
