use super::*;

#[test]
fn faces_are_a_celeba_with_boxes() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("faces");
    // An empty folder is as good as none.
    fs::create_dir(&root).unwrap();
    assert!(ensure(Kind::Faces, 3, &root).unwrap());
    assert!(root.join(NOTE).exists());
    let faces = abn_data::open("celeba", Some(&root)).unwrap();
    assert_eq!((faces.train.len(), faces.test.len()), (2700, 500));
    let names: Vec<_> = faces.train.tasks().iter().map(|task| task.name.as_str()).collect();
    assert_eq!(names, faces::ATTRIBUTES);
    let sample = faces.test.get(7).unwrap();
    assert_eq!((sample.image.height, sample.image.width), (64, 64));
    // The boxes of the first test image are those of its attributes.
    let boxes = fs::read_to_string(root.join("boxes.txt")).unwrap();
    for (task, label) in names.iter().zip(faces.test.labels(0).unwrap()) {
        let there = boxes.lines().any(|line| line.starts_with(&format!("002701.jpg {task} ")));
        assert_eq!(there, label == 1, "{task}");
    }
    // What is read of them are the test images', in the dataset's order.
    let boxes = faces::boxes(&root).unwrap().unwrap();
    assert_eq!(boxes.len(), faces.test.len());
    for (index, boxes) in boxes.iter().enumerate() {
        let there: Vec<u32> = boxes.iter().map(|boxes| (!boxes.is_empty()).into()).collect();
        assert_eq!(there, faces.test.labels(index).unwrap(), "{index}");
    }
    assert!(!ensure(Kind::Faces, 3, &root).unwrap(), "it is there");
    // Another seed replaces it; equal seeds give equal bytes.
    let file = root.join("img_align_celeba/000009.jpg");
    let first = fs::read(&file).unwrap();
    assert!(ensure(Kind::Faces, 4, &root).unwrap());
    assert_ne!(fs::read(&file).unwrap(), first);
    assert!(ensure(Kind::Faces, 3, &root).unwrap());
    assert_eq!(fs::read(&file).unwrap(), first);
    fs::write(root.join("boxes.txt"), "002701.jpg Smiling 1 2 3\n").unwrap();
    let said = faces::boxes(&root).unwrap_err().to_string();
    assert!(said.contains("boxes.txt, line 1: expected `IMAGE ATTRIBUTE"), "{said}");
    fs::remove_file(root.join("boxes.txt")).unwrap();
    assert!(faces::boxes(&root).unwrap().is_none());
}

#[test]
fn cars_are_a_compcars_with_names_and_viewpoints() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("cars");
    assert!(ensure(Kind::Cars, 0, &root).unwrap());
    let cars = abn_data::open("compcars", Some(&root)).unwrap();
    assert_eq!((cars.train.len(), cars.test.len()), (3000, 720));
    let [models, makers] = cars.train.tasks() else { panic!("two tasks") };
    assert_eq!(makers.categories, ["Annulus", "Barra", "Delta", "Rombo"]);
    assert_eq!((models.categories.len(), models.categories[5].as_str()), (12, "Barra Sedan"));
    let mut counts = [0; 12];
    for index in 0..cars.test.len() {
        let labels = cars.test.labels(index).unwrap();
        let (model, maker) = (&models.categories[labels[0] as usize], labels[1] as usize);
        assert!(model.starts_with(&makers.categories[maker]), "{model}");
        counts[labels[0] as usize] += 1;
    }
    assert_eq!(counts, [60; 12]);
    let views = abn_data::open("compcars-viewpoint", Some(&root)).unwrap();
    let mut counts = [0; 6];
    (0..720).for_each(|index| counts[views.test.label(index).unwrap() as usize] += 1);
    assert!(counts[..4].iter().all(|count| *count > 140) && counts[4..] == [0, 0], "{counts:?}");
}

#[test]
fn other_files_are_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("thesis.tex"), "x").unwrap();
    let refused = ensure(Kind::Cars, 0, folder.path()).unwrap_err().to_string();
    assert!(refused.contains("is not empty and holds no drawings"), "{refused}");
    assert!(folder.path().join("thesis.tex").exists());
}
