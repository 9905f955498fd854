//! The real daemons, with real packets between namespaces.

#[path = "netns/app.rs"]
mod app;
#[path = "netns/bad_input.rs"]
mod bad_input;
#[path = "netns/blocked.rs"]
mod blocked;
#[path = "netns/dhcp.rs"]
mod dhcp;
#[path = "netns/dhcp6.rs"]
mod dhcp6;
#[path = "netns/floods.rs"]
mod floods;
#[path = "netns/garden.rs"]
mod garden;
#[path = "netns/hitless.rs"]
mod hitless;
#[path = "netns/ipv6_only.rs"]
mod ipv6_only;
#[path = "netns/isolation.rs"]
mod isolation;
#[path = "netns/journal.rs"]
mod journal;
#[path = "netns/kernel_path.rs"]
mod kernel_path;
#[path = "netns/kills.rs"]
mod kills;
#[path = "netns/line_prefixes.rs"]
mod line_prefixes;
#[path = "netns/lines.rs"]
mod lines;
#[path = "netns/liveness.rs"]
mod liveness;
#[path = "netns/metrics.rs"]
mod metrics;
#[path = "netns/operators.rs"]
mod operators;
#[path = "netns/options.rs"]
mod options;
#[path = "netns/own_rooms.rs"]
mod own_rooms;
#[path = "netns/packages.rs"]
mod packages;
#[path = "netns/port_changes.rs"]
mod port_changes;
#[path = "netns/ports.rs"]
mod ports;
#[path = "netns/rates.rs"]
mod rates;
#[path = "netns/refusals.rs"]
mod refusals;
#[path = "netns/room_vlans.rs"]
mod room_vlans;
#[path = "netns/rooms.rs"]
mod rooms;
#[path = "netns/service.rs"]
mod service;
#[path = "netns/sessions.rs"]
mod sessions;
#[path = "netns/soak.rs"]
mod soak;
#[path = "netns/support.rs"]
mod support;
#[path = "netns/support_bundle.rs"]
mod support_bundle;
#[path = "netns/survival.rs"]
mod survival;
#[path = "netns/top.rs"]
mod top;
#[path = "netns/trace.rs"]
mod trace;
#[path = "netns/traces.rs"]
mod traces;
#[path = "netns/uplinks.rs"]
mod uplinks;
#[path = "netns/why.rs"]
mod why;

use std::process::ExitCode;

use doorstep_tests::cases;
use doorstep_tests::lab::cleanup;
use doorstep_tests::suite::{self, Suite};

fn main() -> ExitCode {
    cleanup::on_signals();
    suite::main(Suite {
        each_kernel: cases![
            lines::{two_tags, terminal_two_tags},
            sessions::{connect_move_release},
            dhcp::{udhcpc, dhcpcd},
            dhcp6::{delegated},
            rooms::{reach_the_world},
            own_rooms::{each_by_its_operator},
            liveness::{line_cut, daemon_gone},
        ],
        newer_kernels: cases![
            lines::{terminal_one_tag},
            room_vlans::{tagged},
            kernel_path::{unresolved_next_hop, too_big_for_the_line},
            uplinks::{a_table_for_each_operator, on_a_vlan},
            port_changes::{ports_come_back},
            rates::{shaped},
            options::{clamp_mss_of_shaped},
            survival::{load_and_unload},
            hitless::{upgraded},
        ],
        any_kernel: cases![
            lines::{untagged, one_tag},
            line_prefixes::{beside_the_delegated},
            ipv6_only::{sessions},
            rooms::{get_addresses, bridged},
            own_rooms::{get_addresses},
            app::{from_a_phone},
            isolation::{spoofed_source, spoofed_mac, wrong_vlan, no_session},
            sessions::{counted_exactly, additional, one_line_for_each_home},
            garden::{first_request, release_missed, outlives_the_daemon},
            refusals::{
                unknown_location,
                wrong_seal,
                legacy_seal_unless_allowed,
                unregistered_subscriber,
                gateway_unknown,
                registered_twice,
                registered_with_a_code,
            },
            bad_input::{configurations, inventories, certificates, frames},
            operators::{each_by_its_own_uplink, each_has_its_own_answers, a_router_away, switched},
            kernel_path::{gateway_answers, time_exceeded, no_service_of_the_host},
            uplinks::{default_route_replaced, events_are_lost, forms_of_routes},
            port_changes::{mac_and_mtu, link_down_and_up},
            service::{changed_live},
            metrics::{scraped},
            journal::{has_fields},
            support_bundle::{tells_what_helps_and_nothing_private},
            packages::{contents},
            dhcp::{
                dhclient,
                routers_come_and_go,
                released,
                moved_at_once,
                forced_to_renew,
            },
            floods::{starve_nobody},
            blocked::{by_hand, before_a_session, by_the_inventory},
            rates::{chosen_plan, policed, shaping_without_a_shaper},
            options::{hairpin, tag_priority, clamp_mss},
            trace::{both_directions_and_why_not, asked_for, gateway_killed_and_stopped, upgraded},
            why::{judged},
            top::{one_frame, in_a_terminal},
            traces::{of_a_move},
            liveness::{gateway_gone, terminal_unplugged, quiet},
            survival::{gateway_killed, server_away, terminal_killed, time_to_live},
            kills::{on_the_way},
            soak::{server_away},
            hitless::{killed, refused, former_version, version_before, full},
            ports::{
                name_of_another_device,
                out_of_the_configuration,
                another_mode,
                impossible_mode,
                another_role,
                detach_removes_pins_only,
                not_beside_a_daemon,
                maps_counted,
            },
        ],
    })
}
