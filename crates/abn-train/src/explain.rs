//! Images as pictures; what is drawn of them is [`abn_explain::pictures`]'.

use abn_data::Image;
use image::RgbImage;

use crate::{Error, Result};

/// A dataset's image as a picture.
///
/// # Errors
/// If the image's bytes do not fit its size, or it has neither 1 nor 3 channels.
pub fn picture(image: &Image) -> Result<RgbImage> {
    let Image { width, height, channels, data } = image;
    let bytes = match channels {
        1 => data.iter().flat_map(|&grey| [grey; 3]).collect(),
        _ => data.clone(),
    };
    let size = u32::try_from(*width).ok().zip(u32::try_from(*height).ok());
    size.filter(|_| matches!(channels, 1 | 3) && data.len() == width * height * channels)
        .and_then(|(width, height)| RgbImage::from_raw(width, height, bytes))
        .ok_or_else(|| {
            let bytes = data.len();
            Error::Invalid(format!("an image of {width}×{height}×{channels} has {bytes} bytes"))
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_number_of_bytes_is_an_error() {
        let image = Image { width: 2, height: 2, channels: 3, data: vec![0; 11] };
        assert!(picture(&image).is_err());
        let grey = Image { width: 2, height: 1, channels: 1, data: vec![7, 9] };
        assert_eq!(picture(&grey).unwrap().into_raw(), [7, 7, 7, 9, 9, 9]);
    }
}
