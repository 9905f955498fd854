//! The types that lie in maps. Most are only known by pointers here, and what is behind a pointer is
//! not in the object's BTF; this puts it there, so that the daemon's layouts can be held against it.

use doorstep_gateway_common::account::Account;
use doorstep_gateway_common::downstream::{DownstreamV4Key, DownstreamV6Key, DownstreamValue};
use doorstep_gateway_common::garden::GardenKey;
use doorstep_gateway_common::limit::LineUse;
use doorstep_gateway_common::liveness::Liveness;
use doorstep_gateway_common::meta::PassMeta;
use doorstep_gateway_common::operator::{OperatorValue, UplinkKey, UplinkValue};
use doorstep_gateway_common::policer::Policers;
use doorstep_gateway_common::punt::PuntHeader;
use doorstep_gateway_common::trace::{TraceFilter, TraceScratch};
use doorstep_gateway_common::upstream::{UpstreamV4Key, UpstreamV6Key, UpstreamValue};
use doorstep_gateway_common::{LineKey, LineValue};

macro_rules! layouts {
    ($($name:ident),* $(,)?) => {
        /// Takes no room.
        #[repr(C)]
        #[expect(non_snake_case, reason = "a field for each type, by its name")]
        pub struct Layouts {
            $($name: [$name; 0],)*
        }

        impl Layouts {
            pub const fn new() -> Self {
                Self { $($name: [],)* }
            }
        }
    };
}

layouts! {
    Account,
    DownstreamV4Key,
    DownstreamV6Key,
    DownstreamValue,
    GardenKey,
    LineKey,
    LineUse,
    LineValue,
    Liveness,
    OperatorValue,
    PassMeta,
    Policers,
    PuntHeader,
    TraceFilter,
    TraceScratch,
    UplinkKey,
    UplinkValue,
    UpstreamV4Key,
    UpstreamV6Key,
    UpstreamValue,
}
