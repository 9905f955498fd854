//! Rates as people write them.

use doorstep_daemon::rate;

use crate::Target;
use crate::mutate::Shape;

pub const TARGET: Target = Target {
    name: "rate",
    about: "rates as people write them: shown and read again they are the same",
    check,
    seeds,
    shape: Shape::Text,
    words: &["unlimited", "k", "M", "G", ".", "000000000"],
    inputs: 20_000,
};

fn seeds() -> Vec<Vec<u8>> {
    let texts = ["64000", "64k", "2.5G", "1.000064M", "1000G", "unlimited"];
    texts.map(|text| text.as_bytes().to_vec()).to_vec()
}

fn check(data: &[u8]) {
    let text = &*String::from_utf8_lossy(data);
    if let Ok(bps) = rate::parse(text) {
        assert_eq!(rate::check(bps), Ok(()));
        assert_eq!(rate::parse(&rate::show(bps)), Ok(bps));
        assert_eq!(rate::parse(&bps.to_string()), Ok(bps));
    }
}
