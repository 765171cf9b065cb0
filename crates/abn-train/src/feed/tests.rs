use abn_data::{Shard, Splits};

use super::*;

/// Everything of a part, so that it can be kept.
type Kept = (Vec<usize>, Vec<f32>, Vec<u32>, Vec<u32>, Vec<usize>);

fn kept(part: Result<Part>) -> Kept {
    let part = part.unwrap();
    let labels = part.labels.flatten_all().unwrap().to_vec1::<u32>().unwrap();
    let images = part.images.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    (part.images.dims().to_vec(), images, labels, part.known, part.indices)
}

fn feed(data: &Splits, transform: Transform, way: Way) -> Feed {
    Feed { dataset: data.train.clone(), transform, device: Device::Cpu, way }
}

/// Grey images that are padded, and colour images of the network's own size.
fn datasets() -> [Splits; 2] {
    let open = |name, count: usize| {
        let data = abn_data::open(name, None).unwrap();
        data.first_per_class(count).unwrap()
    };
    [open("fashion-mnist-mini", 7), open("planted", 13)]
}

fn transform(data: &Splits) -> Transform {
    Transform::standard(data.fit, data.image_size, data.stats)
}

const TRAINING: LoaderConfig = LoaderConfig {
    batch_size: 24,
    shuffle: true,
    augment: true,
    seed: 3,
    epoch: 2,
    drop_last: false,
    prefetch: 2,
    shard: Shard { rank: 0, of: 1 },
};

#[test]
fn every_way_gives_the_loaders_batches() {
    for data in datasets() {
        let transform = transform(&data);
        let lane = || Lane::new(&Device::Cpu).unwrap();
        let resident = Resident::new(&*data.train, &transform, &Device::Cpu).unwrap();
        let resident = Arc::new(resident.expect("small images in memory"));
        let configs = [
            TRAINING,
            LoaderConfig { augment: false, shuffle: false, ..TRAINING },
            LoaderConfig { epoch: 5, seed: 1, batch_size: 3, ..TRAINING },
            // Of the last batch this process has none.
            LoaderConfig { shard: Shard { rank: 2, of: 3 }, batch_size: 17, ..TRAINING },
        ];
        for config in configs {
            let loader = Loader::new(data.train.clone(), transform, config).unwrap();
            let expected: Vec<Kept> =
                loader.map(|batch| kept(Part::new(batch.unwrap(), &Device::Cpu))).collect();
            assert!(expected.iter().any(|part| part.1.iter().any(|&v| v != part.1[0])));
            let ways = [Way::Host, Way::Beside(lane()), Way::Resident(lane(), resident.clone())];
            for way in ways {
                let feed = feed(&data, transform, way);
                for skip in [0, 2] {
                    let parts = feed.epoch(config, skip).unwrap().map(kept);
                    assert!(parts.eq(expected.iter().skip(skip).cloned()), "{config:?}");
                }
            }
        }
    }
}

#[test]
fn photographs_stay_on_the_host() {
    let [data, _] = datasets();
    let photo = Transform::standard(abn_data::Fit::Resize, 224, data.stats);
    assert!(Resident::new(&*data.train, &photo, &Device::Cpu).unwrap().is_none());
}

#[test]
fn an_error_ends_the_epoch_and_a_feed_can_be_left() {
    let [data, _] = datasets();
    let transform = transform(&data);
    // Padding by an odd number cannot be.
    let odd = Transform { fitted_size: 33.into(), ..transform };
    let lane = Lane::new(&Device::Cpu).unwrap();
    let mut parts = feed(&data, odd, Way::Beside(lane.clone())).epoch(TRAINING, 0).unwrap();
    let error = parts.next().unwrap().err().expect("an image that does not fit").to_string();
    assert!(error.contains("evenly"), "{error}");
    assert!(parts.next().is_none());
    let mut parts = feed(&data, transform, Way::Beside(lane)).epoch(TRAINING, 0).unwrap();
    assert_eq!(parts.next().unwrap().unwrap().len(), 24);
    drop(parts);
}
