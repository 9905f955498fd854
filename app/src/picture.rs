//! The text of a door's QR code from a picture of it, as phones and scanners make them.

use std::io::Cursor;

use image::{GrayImage, ImageError, ImageFormat, ImageReader, Limits, imageops};
use rqrr::PreparedImage;

/// What a picture may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Pixels of its longer side.
    pub side: u32,
    /// Bytes of memory while it is read.
    pub bytes: u64,
}

/// On a computer: more than cameras have.
pub const ROOMY: Bounds = Bounds {
    side: 12_000,
    bytes: 512 * 1024 * 1024,
};

/// On a subscriber's device: a phone's picture of 50 million pixels.
pub const NARROW: Bounds = Bounds {
    side: 9_000,
    bytes: 160 * 1024 * 1024,
};

/// What a larger image is scaled down to first: modules are still some pixels wide, and noise is less.
const LOOKED_AT: u32 = 1600;

#[derive(Debug, thiserror::Error)]
pub enum PictureError {
    #[error("it is neither a PNG nor a JPEG; save the picture as one")]
    NotAPicture,
    #[error("it is larger than {} pixels a side or {} MiB; make it smaller", .0.side, .0.bytes >> 20)]
    TooLarge(Bounds),
    #[error("it cannot be read: {0}")]
    Damaged(ImageError),
    #[error("there is no readable QR code; take it from nearer, and in good light")]
    NoCode,
    #[error("there are several QR codes; cut out the one of the door")]
    SeveralCodes,
}

/// The text of the one QR code in a PNG or JPEG. Takes up to some seconds of a processor.
///
/// # Errors
///
/// If it is no such picture, larger than it may be, or has no code or several.
pub fn read(picture: &[u8], bounds: Bounds) -> Result<String, PictureError> {
    let mut reader = ImageReader::new(Cursor::new(picture));
    match image::guess_format(picture) {
        Ok(format @ (ImageFormat::Png | ImageFormat::Jpeg)) => reader.set_format(format),
        _ => return Err(PictureError::NotAPicture),
    }
    let mut limits = Limits::default();
    limits.max_image_width = Some(bounds.side);
    limits.max_image_height = Some(bounds.side);
    limits.max_alloc = Some(bounds.bytes);
    reader.limits(limits);
    let image = reader.decode().map_err(|error| match error {
        ImageError::Limits(_) => PictureError::TooLarge(bounds),
        error => PictureError::Damaged(error),
    })?;
    decode(&image.into_luma8())
}

/// The text of the one QR code in an image.
///
/// # Errors
///
/// If there is none, or several.
pub fn decode(image: &GrayImage) -> Result<String, PictureError> {
    let longer = image.width().max(image.height());
    let mut texts = Vec::new();
    if longer > LOOKED_AT {
        let scaled = |side: u32| (side * LOOKED_AT / longer).max(1);
        let (width, height) = (scaled(image.width()), scaled(image.height()));
        texts = found(&imageops::thumbnail(image, width, height));
    }
    if texts.is_empty() {
        texts = found(image);
    }
    if texts.is_empty() {
        texts = found(&imageops::blur(image, 1.0));
    }
    let mut texts = texts.into_iter();
    match (texts.next(), texts.next()) {
        (Some(text), None) => Ok(text),
        (Some(_), Some(_)) => Err(PictureError::SeveralCodes),
        (None, _) => Err(PictureError::NoCode),
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
    use image::{DynamicImage, Luma};
    use qrcode::{EcLevel, QrCode};

    use super::*;

    fn sealed(letter: &str) -> String {
        format!("d1.{}", letter.repeat(144))
    }

    fn code(letter: &str) -> GrayImage {
        let code = QrCode::with_error_correction_level(sealed(letter), EcLevel::M).unwrap();
        let (width, modules) = (code.width(), code.to_colors());
        let side = u32::try_from(width + 8).unwrap() * 8;
        GrayImage::from_fn(side, side, |x, y| {
            let at = |pixel: u32| (pixel as usize / 8).checked_sub(4).filter(|at| *at < width);
            match (at(x), at(y)) {
                (Some(x), Some(y)) => modules[y * width + x].select(Luma([0]), Luma([255])),
                _ => Luma([255]),
            }
        })
    }

    fn written(image: &GrayImage, format: ImageFormat) -> Vec<u8> {
        let mut bytes = Cursor::new(Vec::new());
        let image = DynamicImage::from(image.clone());
        image.write_to(&mut bytes, format).unwrap();
        bytes.into_inner()
    }

    #[test]
    fn what_phones_and_scanners_write_is_read() {
        for format in [ImageFormat::Png, ImageFormat::Jpeg] {
            let picture = written(&code("A"), format);
            assert_eq!(read(&picture, NARROW).unwrap(), sealed("A"), "{format:?}");
        }
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
        let mut wall = GrayImage::from_pixel(3000, 2000, Luma([180]));
        imageops::replace(&mut wall, &resized(900), 400, 700);
        for (name, copy) in [
            ("a quarter turn", imageops::rotate90(&image)),
            ("upside down", imageops::rotate180(&image)),
            ("larger", resized(size * 5 / 2)),
            ("smaller", resized(size * 2 / 3)),
            ("noisy", noisy),
            ("on a wall", wall),
        ] {
            assert_eq!(decode(&copy).unwrap(), sealed("A"), "{name}");
        }
    }

    #[test]
    fn what_cannot_be_read_is_said() {
        let (one, other) = (code("A"), code("B"));
        let side = one.width();
        let mut both = GrayImage::from_pixel(2 * side, side, Luma([255]));
        imageops::replace(&mut both, &one, 0, 0);
        imageops::replace(&mut both, &other, i64::from(side), 0);
        let empty = GrayImage::from_pixel(300, 300, Luma([200]));
        let mut damaged = written(&one, ImageFormat::Png);
        damaged.truncate(100);
        for (picture, said) in [
            (b"GIF89a".to_vec(), "neither a PNG nor a JPEG"),
            (Vec::new(), "neither a PNG nor a JPEG"),
            (damaged, "cannot be read"),
            (written(&empty, ImageFormat::Jpeg), "no readable QR code"),
            (written(&both, ImageFormat::Png), "several QR codes"),
        ] {
            let error = read(&picture, NARROW).unwrap_err().to_string();
            assert!(error.contains(said), "{said}: {error}");
        }
    }

    #[test]
    fn a_picture_that_would_take_too_much_is_not_unpacked() {
        let tight = Bounds {
            side: 500,
            bytes: 1 << 20,
        };
        for format in [ImageFormat::Png, ImageFormat::Jpeg] {
            let wide = GrayImage::from_pixel(501, 10, Luma([255]));
            let error = read(&written(&wide, format), tight).unwrap_err();
            assert!(matches!(error, PictureError::TooLarge(_)), "{error}");
        }
        let heavy = Bounds {
            side: 5_000,
            bytes: 1 << 20,
        };
        let large = GrayImage::from_pixel(1500, 1500, Luma([255]));
        let error = read(&written(&large, ImageFormat::Png), heavy).unwrap_err();
        assert!(matches!(error, PictureError::TooLarge(_)), "{error}");
    }
}
