//! The scripts that the server runs.

use std::sync::LazyLock;

use ::redis::{Cmd, Script as Code, cmd};

pub(super) struct Script {
    text: String,
    code: Code,
}

impl Script {
    fn new(flags: &str, parts: &[&str]) -> Self {
        let text = format!("#!lua{flags}\n{}", parts.concat());
        Self { code: Code::new(&text), text }
    }

    /// A call, whose arguments the caller adds.
    pub(super) fn call(&self, prefix: &str) -> Cmd {
        let mut call = cmd("EVALSHA");
        call.arg(self.code.get_hash()).arg(1).arg(prefix);
        call
    }

    pub(super) fn load(&self) -> Cmd {
        let mut load = cmd("SCRIPT");
        load.arg("LOAD").arg(&self.text);
        load
    }
}

const COMMON: &str = include_str!("lua/common.lua");
const WILD: &str = include_str!("lua/wild.lua");
/// For what frees memory, or must go on while there is none.
const ALWAYS: &str = " flags=allow-oom";

macro_rules! scripts {
    ($($name:ident = $flags:expr, $($part:expr),*;)*) => {
        $(pub(super) static $name: LazyLock<Script> =
            LazyLock::new(|| Script::new($flags, &[$($part),*]));)*

        pub(super) fn all() -> impl Iterator<Item = &'static Script> {
            [$(&*$name),*].into_iter()
        }
    };
}

scripts! {
    PUBLISH = "", include_str!("lua/publish.lua");
    DECLARE = "", COMMON, WILD, include_str!("lua/declare.lua");
    READ = ALWAYS, COMMON, include_str!("lua/read.lua");
    SETTLE = ALWAYS, COMMON, include_str!("lua/settle.lua");
    ATTACH = ALWAYS, COMMON, include_str!("lua/attach.lua");
    DETACH = ALWAYS, COMMON, include_str!("lua/detach.lua");
    DELETE = ALWAYS, COMMON, WILD, include_str!("lua/delete.lua");
    REGISTRY = ALWAYS, COMMON, include_str!("lua/registry.lua");
    BEGIN = ALWAYS, COMMON, include_str!("lua/begin.lua");
    RENEW = ALWAYS, COMMON, include_str!("lua/renew.lua");
    STATS = ALWAYS, COMMON, include_str!("lua/stats.lua");
    CLEAR = ALWAYS, COMMON, include_str!("lua/clear.lua");
    WAITING = ALWAYS, COMMON, include_str!("lua/waiting.lua");
}
