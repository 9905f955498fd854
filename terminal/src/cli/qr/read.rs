//! The sealed location id from an image of its QR code.

use std::fs::File;
use std::io::BufReader;
use std::path::Path;

use anyhow::{Context as _, bail};
use image::{GrayImage, ImageFormat, ImageReader, Limits, imageops};
use rqrr::PreparedImage;

/// Pixels of an image's longer side: more than cameras have.
const MAX_SIDE: u32 = 12_000;
/// Bytes that an image may take while it is read.
const MAX_BYTES: u64 = 512 * 1024 * 1024;
/// What a larger image is scaled down to: modules are still some pixels wide, and noise is less.
const LOOKED_AT: u32 = 1600;

/// The text of the one QR code in a PNG image.
pub fn read(path: &Path) -> anyhow::Result<String> {
    let image = open(path).with_context(|| format!("cannot read the image {}", path.display()))?;
    decode(&image).with_context(|| path.display().to_string())
}

fn open(path: &Path) -> anyhow::Result<GrayImage> {
    let mut reader = ImageReader::new(BufReader::new(File::open(path)?)).with_guessed_format()?;
    match reader.format() {
        Some(ImageFormat::Png) => {}
        _ => bail!("it is not a PNG; save the picture as one"),
    }
    let mut limits = Limits::default();
    limits.max_image_width = Some(MAX_SIDE);
    limits.max_image_height = Some(MAX_SIDE);
    limits.max_alloc = Some(MAX_BYTES);
    reader.limits(limits);
    Ok(reader.decode()?.into_luma8())
}

fn decode(image: &GrayImage) -> anyhow::Result<String> {
    let longer = image.width().max(image.height());
    let mut texts = found(image);
    if texts.is_empty() && longer > LOOKED_AT {
        let scaled = |side: u32| (side * LOOKED_AT / longer).max(1);
        let (width, height) = (scaled(image.width()), scaled(image.height()));
        let filter = imageops::FilterType::Triangle;
        texts = found(&imageops::resize(image, width, height, filter));
    }
    if texts.is_empty() {
        texts = found(&imageops::blur(image, 1.0));
    }
    let mut texts = texts.into_iter();
    match (texts.next(), texts.next()) {
        (Some(text), None) => Ok(text),
        (Some(_), Some(_)) => bail!("there are several QR codes; cut out the one of the door"),
        (None, _) => bail!("there is no readable QR code; take it from nearer, and in good light"),
    }
}

/// The texts of all codes that can be read, each once.
fn found(image: &GrayImage) -> Vec<String> {
    let (width, height) = (image.width() as usize, image.height() as usize);
    let luma = |x: usize, y: usize| image.as_raw()[y * width + x];
    let mut prepared = PreparedImage::prepare_from_greyscale(width, height, luma);
    let mut texts: Vec<String> = prepared
        .detect_grids()
        .iter()
        .filter_map(|grid| Some(grid.decode().ok()?.1))
        .collect();
    texts.sort_unstable();
    texts.dedup();
    texts
}

#[cfg(test)]
mod tests {
    use image::Luma;

    use super::super::{encode, png};
    use super::*;

    fn sealed(letter: &str) -> String {
        format!("d1.{}", letter.repeat(144))
    }

    fn code(letter: &str) -> GrayImage {
        png(&encode(&sealed(letter)).unwrap())
    }

    #[test]
    fn what_was_written_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("door.png");
        code("A").save(&path).unwrap();
        assert_eq!(read(&path).unwrap(), sealed("A"));
    }

    #[test]
    fn turned_scaled_and_noisy_copies_are_read() {
        let image = code("A");
        let size = image.width();
        let resized = |side| imageops::resize(&image, side, side, imageops::FilterType::Triangle);
        let mut noise = 1u32;
        let mut noisy = image.clone();
        for pixel in noisy.pixels_mut() {
            noise = noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let Luma([light]) = *pixel;
            let change = (noise >> 26) as u8;
            *pixel = Luma([if light > 127 {
                light - change
            } else {
                light + change
            }]);
        }
        for (name, copy) in [
            ("a quarter turn", imageops::rotate90(&image)),
            ("upside down", imageops::rotate180(&image)),
            ("larger", resized(size * 5 / 2)),
            ("smaller", resized(size * 2 / 3)),
            ("noisy", noisy),
        ] {
            assert_eq!(decode(&copy).unwrap(), sealed("A"), "{name}");
        }
    }

    #[test]
    fn what_cannot_be_read_is_said() {
        let folder = tempfile::tempdir().unwrap();
        let said = |path: &Path| format!("{:#}", read(path).unwrap_err());
        let path = folder.path().join("door.png");
        assert!(
            said(&path).contains("cannot read the image"),
            "{}",
            said(&path)
        );
        std::fs::write(&path, "\u{ff}\u{d8} no picture").unwrap();
        assert!(said(&path).contains("not a PNG"), "{}", said(&path));
        GrayImage::from_pixel(300, 300, Luma([200]))
            .save(&path)
            .unwrap();
        assert!(
            said(&path).contains("no readable QR code"),
            "{}",
            said(&path)
        );
        let (one, other) = (code("A"), code("B"));
        let side = one.width();
        let mut both = GrayImage::from_pixel(2 * side, side, Luma([255]));
        imageops::replace(&mut both, &one, 0, 0);
        imageops::replace(&mut both, &other, i64::from(side), 0);
        both.save(&path).unwrap();
        assert!(said(&path).contains("several QR codes"), "{}", said(&path));
    }
}
