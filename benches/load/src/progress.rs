/// Hears how far a run is
pub trait Progress {
    /// `done` of `all`, in the phase of this name.
    fn at(&mut self, phase: &'static str, done: u64, all: u64);
}

/// Hears nothing
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct Silent;

impl Progress for Silent {
    fn at(&mut self, _: &'static str, _: u64, _: u64) {}
}
