//! Takes the Rust out of the pages of docs/, so that it is compiled as it stands there.

use std::fmt::Write as _;
use std::path::Path;
use std::{env, fs, io};

fn main() -> io::Result<()> {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs");
    println!("cargo::rerun-if-changed={}", docs.display());
    let mut pages: Vec<_> = fs::read_dir(docs)?.collect::<Result<_, _>>()?;
    pages.sort_by_key(fs::DirEntry::file_name);
    let mut rust = String::new();
    for page in pages {
        let path = page.path();
        if path.extension().is_none_or(|extension| extension != "md") {
            continue;
        }
        let text = fs::read_to_string(&path)?;
        for block in text.split("\n```rust").skip(1) {
            let (block, _) = block.split_once("\n```").unwrap_or((block, ""));
            let name = page.file_name();
            let _ = write!(rust, "Of `{}`:\n\n```rust{block}\n```\n\n", name.display());
        }
    }
    let folder = env::var_os("OUT_DIR").ok_or_else(|| io::Error::other("no OUT_DIR"))?;
    fs::write(Path::new(&folder).join("docs.md"), rust)
}
