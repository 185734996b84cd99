//! Builds the server again when a file is added to or taken from the page.

fn main() {
    println!("cargo::rerun-if-changed=ui");
}
