//! The loaded programs, one packet at a time, beside the host model.

#[path = "program/dhcp.rs"]
mod dhcp;
#[path = "program/differential.rs"]
mod differential;
#[path = "program/fixture.rs"]
mod fixture;
#[path = "program/garden.rs"]
mod garden;
#[path = "program/options.rs"]
mod options;
#[path = "program/probes.rs"]
mod probes;
#[path = "program/trace.rs"]
mod trace;
#[path = "program/verdicts.rs"]
mod verdicts;
#[path = "program/verifier.rs"]
mod verifier;

use std::process::ExitCode;

use doorstep_tests::cases;
use doorstep_tests::suite::{self, Suite};

fn main() -> ExitCode {
    suite::main(Suite {
        each_kernel: cases![
        verdicts::{
            forwards_upstream,
            forwards_downstream,
            refuses_by_name,
            refuses_the_world_by_name,
            answers_neighbours,
            punts_establishment,
            hands_to_the_kernel,
            polices,
            polices_on_all_cpus,
            counts_each_packet_once,
        },
        trace::{each_verdict_is_told_once, filters_select, to_a_line, a_full_ring_holds_nobody_up},
        options::{
            turns_round_where_allowed,
            turns_round_only_what_it_may,
            clamps_mss,
            clamps_no_others_mss,
            priority_of_tags,
        },
        probes::{answers_the_sessions_terminal, answers_nobody_else, the_rest_goes_to_the_daemon},
        dhcp::{punts_clients, punts_over_ipv6, not_from_lines_that_have_none},
        garden::{
            servers_are_reached,
            nothing_else_is_reached,
            only_servers_answer,
            asked_for_by_multicast,
        },
        verifier::{instructions_do_not_jump, plain_programs_cannot_tell},
        ],
        newer_kernels: &[],
        // It is about what the programs decide; that they decide it here too, the others show.
        any_kernel: cases![differential::{
            mutated_frames_agree_with_the_model,
            followed_frames_are_told_of_once,
        }],
    })
}
