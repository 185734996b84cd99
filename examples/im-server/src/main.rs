//! An instant-messaging server, assembled from the gateway crates.

mod data_dir;
mod options;
mod page;

fn main() {
    let options = options::Options::from_process();
    let _ = (data_dir::DataDir::open(&options.data), page::router());
}
