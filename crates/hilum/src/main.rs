//! hilum: a hospital's HL7 v2 feed becomes a live chart. Commands, configuration, wiring; the only place that reads
//! the machine.
#![allow(dead_code)] // `serve`, which uses what is here, comes with the log

mod admin;
mod bounds;
mod commands;
mod config;
mod failpoints;
mod folder;
mod generate;
mod house;
mod logging;
mod machine;
mod metrics;
mod out;
mod running;

use std::process::ExitCode;

use clap::Parser as _;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
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
