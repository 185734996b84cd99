use std::time::Duration;

/// How a contender does compared with the codec
#[derive(Clone, Copy)]
pub enum Bar {
    /// It takes at least so many times as long
    AtLeast(f64),
    /// The codec takes at most so many times as long
    AtMost(f64),
    /// The codec takes at most so many nanoseconds
    Nanoseconds(f64),
    None,
}

/// One turn: the time that some units of work took
pub type Turn = Box<dyn FnMut() -> Duration>;

pub struct Contender {
    pub id: &'static str,
    pub name: String,
    pub bar: Bar,
    pub turn: Turn,
}

/// The codec and others at the same work
pub struct Race {
    /// Units (frames, heart-beats) in a turn.
    pub units: usize,
    pub codec: Turn,
    pub others: Vec<Contender>,
}

impl Race {
    pub fn run(mut self, turns: usize) {
        let mut ours = Vec::new();
        let mut theirs = vec![Vec::new(); self.others.len()];
        let warm_up = turns / 10;
        for turn in 0..turns + warm_up {
            let own = (self.codec)();
            let times: Vec<_> = self.others.iter_mut().map(|other| (other.turn)()).collect();
            if turn >= warm_up {
                ours.push(own.as_secs_f64());
                theirs.iter_mut().zip(times).for_each(|(all, time)| all.push(time.as_secs_f64()));
            }
        }
        let nanoseconds = |times: &[f64]| median(times) * 1e9 / self.units as f64;
        let own = nanoseconds(&ours);
        for (other, times) in self.others.iter().zip(&theirs) {
            let ratios: Vec<_> = ours.iter().zip(times).map(|(own, other)| other / own).collect();
            let ratio = median(&ratios);
            let (ratio, wanted, holds) = match other.bar {
                Bar::AtLeast(bar) => (ratio, format!("≥ {bar}"), ratio >= bar),
                Bar::AtMost(bar) => (1.0 / ratio, format!("≤ {bar}"), 1.0 / ratio <= bar),
                Bar::Nanoseconds(bar) => (ratio, format!("≤ {bar} ns"), own <= bar),
                Bar::None => (ratio, String::new(), true),
            };
            let (id, name, time) = (other.id, &other.name, nanoseconds(times));
            let verdict = if holds { "" } else { "**missed**" };
            println!(
                "| {id} | {name} | {own:.1} | {time:.1} | {ratio:.3} | {wanted} | {verdict} |"
            );
        }
    }
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
}
