use std::path::Path;
use std::time::Duration;

use stomp_load::scenario::{Load, Shape, Traffic};
use stomp_load::{Ballast, Keeping, LoadError, Local, Report, Setting, Silent, Target, beside};

use super::curve::{Curve, Pace};

/// Who write to each other in direct messages.
const PEOPLE: usize = 50;
/// Copies on their way in a fan-out, or as many as one message has.
const COPIES: usize = 2000;

/// A server that is measured while something grows
pub(crate) struct Server<'a> {
    curve: Curve,
    setting: &'a Setting,
    program: &'a Path,
    local: Local,
    /// Who writes to each other, or to a group
    people: Option<Target>,
    ballast: Option<Ballast>,
    forwarder: Option<Local>,
}

impl<'a> Server<'a> {
    /// A server for the curve, that has done nothing yet.
    pub(crate) fn start(
        curve: Curve,
        setting: &'a Setting,
        program: &'a Path,
    ) -> Result<Self, LoadError> {
        let local = start(curve, setting, program)?;
        setting.to_server()?;
        let forwarder =
            curve.beside_forwarder().then(|| Local::forwarder(&beside("bare-forwarder")?));
        let forwarder = forwarder.transpose()?;
        setting.to_load()?;
        let target = local.target();
        let ballast =
            local.stomp().map(|stomp| Ballast::new(stomp, &target.login, &target.passcode));
        Ok(Self { curve, setting, program, local, people: None, ballast, forwarder })
    }

    /// How many connections there may be.
    pub(crate) fn room(&self) -> usize {
        let servers = [Some(&self.local), self.forwarder.as_ref()];
        servers.into_iter().flatten().filter_map(Local::room).min().unwrap_or(usize::MAX)
    }

    /// Grows what is there besides the work.
    pub(crate) fn grow(&mut self, size: usize, pace: Pace) -> Result<(), LoadError> {
        let no_stomp = || LoadError::Server("no STOMP over TCP".to_owned());
        match self.curve {
            Curve::IdleConnections => self.ballast.as_mut().ok_or_else(no_stomp)?.connect(size),
            Curve::Destinations => self.ballast.as_mut().ok_or_else(no_stomp)?.subscribe(size),
            Curve::Stored => {
                // Anew, as what is measured is stored too.
                self.local = start(self.curve, self.setting, self.program)?;
                self.local.fill(PEOPLE, size)?;
                self.people = Some(self.local.people(PEOPLE)?);
                // The database writes its log back.
                let ring = Traffic::new(Shape::Ring(PEOPLE), Load::Window(1));
                self.run(&ring.with_times(Duration::ZERO, pace.warm_up)).map(drop)
            }
            Curve::Members => {
                self.people = Some(self.local.group(&group(size), size)?);
                Ok(())
            }
            Curve::ActiveConnections | Curve::Subscribers | Curve::Body => Ok(()),
        }
    }

    pub(crate) fn measure(&self, size: usize, pace: Pace) -> Result<Report, LoadError> {
        self.run(&self.work(size, pace))
    }

    /// The same by the bare forwarder, where the curve has it.
    pub(crate) fn measure_forwarder(
        &self,
        size: usize,
        pace: Pace,
    ) -> Result<Option<Report>, LoadError> {
        let Some(forwarder) = &self.forwarder else { return Ok(None) };
        let work = self.work(size, pace);
        work.run(forwarder.target(), &mut Silent::default()).map(Some)
    }

    fn work(&self, size: usize, pace: Pace) -> Traffic {
        let fan_out = |topics, subscribers| Shape::FanOut { topics, subscribers, slow: 0 };
        let (shape, window, octets) = match self.curve {
            Curve::IdleConnections => (Shape::Pairs(50), 20, 128),
            Curve::ActiveConnections => (Shape::Pairs(size / 2), 4, 128),
            Curve::Destinations => (fan_out(50, 1), 20, 128),
            Curve::Subscribers => (fan_out(1, size), (COPIES / size).max(1), 128),
            Curve::Body => (Shape::Pairs(10), 4, size),
            Curve::Stored => (Shape::Ring(PEOPLE), 20, 128),
            Curve::Members => (Shape::Group(size), (COPIES / size).max(1), 128),
        };
        let work = Traffic::new(shape, Load::Window(window)).with_size(octets);
        let work = work.with_times(pace.warm_up, pace.measured);
        if self.curve == Curve::Members { work.with_group(&group(size)) } else { work }
    }

    fn run(&self, work: &Traffic) -> Result<Report, LoadError> {
        let target = self.people.as_ref().unwrap_or_else(|| self.local.target());
        work.run(target, &mut Silent::default())
    }
}

/// A server on its core.
fn start(curve: Curve, setting: &Setting, program: &Path) -> Result<Local, LoadError> {
    let keeping = match curve {
        Curve::Stored | Curve::Members => Keeping::Files,
        _ => Keeping::Memory,
    };
    setting.to_server()?;
    let local = Local::im_server(program, keeping)?;
    setting.to_load()?;
    Ok(local)
}

fn group(members: usize) -> String {
    format!("of-{members}")
}
