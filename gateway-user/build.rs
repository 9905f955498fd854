//! Builds the eBPF programs that the daemon carries.

fn main() -> Result<(), doorstep_ebpf_build::Error> {
    doorstep_ebpf_build::build_for_build_script(
        "doorstep-gateway-ebpf",
        "doorstep-gateway-ebpf",
        "GATEWAY_OBJECT",
    )
}
