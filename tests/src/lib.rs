//! What the tests with real packets share.

pub mod frames;
pub mod hitless;
pub mod lab;
pub mod model;
pub mod objects;
pub mod programs;
pub mod suite;
pub mod switching;

#[cfg(test)]
mod tests {
    /// The programs know nothing of the crate that speaks the exchange; these must agree.
    #[test]
    fn programs_and_exchange_agree() {
        assert_eq!(
            doorstep_establish::UDP_PORT,
            doorstep_gateway_common::names::ESTABLISH_PORT
        );
        assert_eq!(
            doorstep_establish::GATEWAY_LINK_LOCAL.octets(),
            doorstep_datapath::nd::GATEWAY_LINK_LOCAL
        );
    }
}
