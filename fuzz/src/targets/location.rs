//! Location ids and prefixes.

use doorstep_location::{LocationId, LocationPrefix};

use crate::Target;
use crate::mutate::Shape;

pub const TARGET: Target = Target {
    name: "location_id",
    about: "location ids and prefixes: one text for each, both forms read the same",
    check,
    seeds,
    shape: Shape::Text,
    words: &[
        "110103",
        "xinjingjiayuan",
        "001",
        "0704",
        "0",
        "00000000000000000",
        "-",
    ],
    inputs: 20_000,
};

fn seeds() -> Vec<Vec<u8>> {
    [
        "110103-xinjingjiayuan-001-002-004",
        "110103-xinjingjiayuan000000000000000000-001-002-004",
        "110103-abcdefghijklmnopqrstuvwxyz012345-0001-0002-0704",
        "1101",
        "110103",
        "110103-a1-001",
    ]
    .map(|text| text.as_bytes().to_vec())
    .to_vec()
}

fn check(data: &[u8]) {
    let text = &*String::from_utf8_lossy(data);
    match text.parse::<LocationId>() {
        Ok(id) => {
            let long = id.to_long_form();
            assert!(text == id.as_str() || text == long, "a third spelling");
            assert_eq!(id.to_string().parse().as_ref(), Ok(&id));
            assert_eq!(long.parse().as_ref(), Ok(&id));
            assert!(id.as_str().len() <= LocationId::MAX_LEN);
            let parts = [
                id.area(),
                id.community(),
                id.building(),
                id.unit(),
                id.room(),
            ];
            assert_eq!(parts.join("-"), id.as_str());
            let json = serde_json::to_string(&id).expect("a text");
            assert_eq!(
                serde_json::from_str::<LocationId>(&json).ok(),
                Some(id.clone())
            );
            for specificity in 0..=parts.len() {
                let prefix = match specificity {
                    0 => id.city().to_owned(),
                    _ => parts[..specificity].join("-"),
                };
                let prefix: LocationPrefix = prefix.parse().expect("a part of an id");
                assert_eq!(prefix.specificity(), specificity);
                assert!(prefix.contains(&id) && id.starts_with(&prefix));
            }
        }
        Err(error) => assert!(text.is_char_boundary(error.position), "{error}"),
    }
    match text.parse::<LocationPrefix>() {
        Ok(prefix) => {
            assert_eq!(prefix.to_string().parse().as_ref(), Ok(&prefix));
            assert!(prefix.specificity() <= 5);
        }
        Err(error) => {
            assert!(text.is_char_boundary(error.position), "{error}");
            assert!(text.parse::<LocationId>().is_err(), "an id is a prefix too");
        }
    }
}
