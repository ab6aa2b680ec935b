//! hilum: a hospital's HL7 v2 feed becomes a live chart. Commands, configuration, wiring; the only place that reads
//! the machine.

mod admin;
mod archive;
mod bounds;
mod cluster;
mod commands;
mod company;
mod config;
mod damaged_end;
mod exchange;
mod failpoints;
mod folder;
mod generate;
mod house;
mod limits;
mod logging;
mod machine;
mod metrics;
mod out;
mod passed_over;
mod probes;
mod relay;
mod running;
mod seen;
mod sweep;
mod telemetry;
mod watch;

use std::process::ExitCode;

use clap::Parser as _;

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    // The text of a panic may quote what it stumbled over: only its place is said.
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map_or_else(String::new, |at| format!("{}:{}", at.file(), at.line()));
        tracing::error!(place, "panic");
        if !tracing::event_enabled!(tracing::Level::ERROR) {
            machine::complain(&format!("hilum: panic at {place}"));
        }
    }));
    let command_line = match commands::CommandLine::try_parse() {
        Ok(command_line) => command_line,
        Err(usage) => {
            usage.print().ok();
            return ExitCode::from(u8::try_from(usage.exit_code()).unwrap_or(2));
        }
    };
    match commands::run(command_line.command) {
        Ok(code) => code,
        Err(error) => {
            machine::complain(&format!("hilum: {error:#}"));
            ExitCode::FAILURE
        }
    }
}
