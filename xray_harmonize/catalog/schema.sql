-- The catalogue of an archive: one row an image, what its header tells of the acquisition, labels, and where each came
-- from. Ask image_full and label_full; the tables below them are for those who fill them.
--
-- Nothing here tells a name, a birth date or free text. patient_id is the key that joins tables, kept as it is in the
-- files, or hashed with a salt (then setting.patients says so).

-- Folders that were indexed. Images are known by their path below one, so that an archive can be moved.
CREATE TABLE source (
    source_id INTEGER PRIMARY KEY,
    root      TEXT NOT NULL UNIQUE   -- absolute, no slash at its end
) STRICT;

-- Files that hold a greyscale projection image.
CREATE TABLE image (
    image_id    INTEGER PRIMARY KEY,
    source_id   INTEGER NOT NULL REFERENCES source,
    path        TEXT NOT NULL,       -- below source.root, with slashes
    size        INTEGER NOT NULL,    -- bytes
    mtime_ns    INTEGER NOT NULL,    -- an unchanged file has the same size and time, and is not read again
    header_hash TEXT NOT NULL,       -- of the row in acquisition: equal hashes, equal acquisitions
    present     INTEGER NOT NULL DEFAULT 1 CHECK (present IN (0, 1)), -- 0: gone, or no readable image any more
    study_key   TEXT,                -- what tables of labels call the study, where that is not StudyInstanceUID
    indexed_at  TEXT NOT NULL,       -- UTC
    UNIQUE (source_id, path)
) STRICT;
CREATE INDEX image_absent ON image (source_id, path) WHERE present = 0;
CREATE INDEX image_study_key ON image (study_key) WHERE study_key IS NOT NULL;

-- What the header of each image tells; the columns of xray_harmonize.dicom.acquisition.ACQUISITION_COLUMNS.
CREATE TABLE acquisition (
    image_id                INTEGER PRIMARY KEY REFERENCES image,
    sop_instance_uid        TEXT,
    sop_class_uid           TEXT,
    series_instance_uid     TEXT,
    study_instance_uid      TEXT,
    patient_id              TEXT,
    image_type              TEXT,
    modality                TEXT,
    rows                    INTEGER,
    columns                 INTEGER,
    bits_allocated          INTEGER,
    bits_stored             INTEGER,
    signed                  INTEGER, -- 0 or 1
    photometric             TEXT,
    presentation_lut_shape  TEXT,
    presentation_intent     TEXT,    -- 'FOR PROCESSING' or 'FOR PRESENTATION'
    transfer_syntax         TEXT,
    manufacturer            TEXT,    -- as in the file
    vendor                  TEXT,    -- one name a vendor
    model                   TEXT,
    device_serial           TEXT,
    detector_id             TEXT,
    detector_type           TEXT,
    software_versions       TEXT,
    processing_description  TEXT,
    processing_code         TEXT,
    body_part               TEXT,
    view                    TEXT,
    laterality              TEXT,
    patient_orientation     TEXT,
    kvp                     REAL,
    mas                     REAL,
    mas_source              TEXT,    -- the tag that mas came from; likewise below
    tube_current_ma         REAL,
    tube_current_source     TEXT,
    exposure_time_ms        REAL,
    exposure_time_source    TEXT,
    exposure_index          REAL,
    target_exposure_index   REAL,
    deviation_index         REAL,
    relative_exposure       REAL,
    sensitivity             REAL,
    sid_mm                  REAL,    -- source to detector
    grid                    TEXT,
    dap                     REAL,    -- dose area product, dGy cm2
    pixel_spacing_mm        REAL,    -- between rows
    pixel_spacing_column_mm REAL,    -- between columns
    pixel_spacing_source    TEXT,
    magnification           REAL,
    age_years               REAL,
    sex                     TEXT,
    portable                INTEGER, -- 0 or 1
    implausible             TEXT,    -- columns whose value lies outside its plausible range, by commas
    scanner                 TEXT,
    acquisition_group       TEXT
) STRICT;
CREATE INDEX acquisition_sop_instance_uid ON acquisition (sop_instance_uid);
CREATE INDEX acquisition_study_instance_uid ON acquisition (study_instance_uid);
CREATE INDEX acquisition_patient_id ON acquisition (patient_id);
CREATE INDEX acquisition_scanner ON acquisition (scanner);

-- What was found in an image, or in a study and thereby in all its images, and who says so.
CREATE TABLE label (
    label_id  INTEGER PRIMARY KEY,
    image_id  INTEGER REFERENCES image,
    study_key TEXT,
    labeler   TEXT NOT NULL,         -- 'chexpert', 'negbio', a person, a table
    name      TEXT NOT NULL,         -- 'Pneumonia'
    value     ANY,                   -- a number or a word; NULL where the labeler says nothing
    CHECK ((image_id IS NULL) <> (study_key IS NULL))
) STRICT;
CREATE UNIQUE INDEX label_of_image ON label (name, labeler, image_id) WHERE image_id IS NOT NULL;
CREATE UNIQUE INDEX label_of_study ON label (name, labeler, study_key) WHERE study_key IS NOT NULL;

-- Which file filled what, and when.
CREATE TABLE provenance (
    provenance_id INTEGER PRIMARY KEY,
    what          TEXT NOT NULL,     -- 'index', 'import mimic-cxr', ...
    file          TEXT NOT NULL,     -- folder or table that was read
    sha256        TEXT,              -- of a table
    n_rows        INTEGER NOT NULL,
    at            TEXT NOT NULL      -- UTC
) STRICT;

-- Files that are no image that can be used, and why; none is read again before it changes, unless it was unreadable.
CREATE TABLE error (
    source_id INTEGER NOT NULL REFERENCES source,
    path      TEXT NOT NULL,         -- below source.root
    size      INTEGER NOT NULL,
    mtime_ns  INTEGER NOT NULL,
    kind      TEXT NOT NULL CHECK (kind IN ('refused', 'unreadable', 'not DICOM')),
    reason    TEXT NOT NULL,
    found_at  TEXT NOT NULL,         -- UTC
    PRIMARY KEY (source_id, path)
) STRICT, WITHOUT ROWID;

-- Facts on the catalogue itself.
CREATE TABLE setting (
    name  TEXT PRIMARY KEY,
    value TEXT NOT NULL
) STRICT, WITHOUT ROWID;

-- Every image that is there, with its whole path and its acquisition.
CREATE VIEW image_full AS
SELECT
    image.image_id,
    source.root || '/' || image.path AS path,
    coalesce(image.study_key, acquisition.study_instance_uid) AS study_key,
    sop_instance_uid, sop_class_uid, series_instance_uid, study_instance_uid, patient_id, image_type, modality,
    acquisition.rows, acquisition.columns, bits_allocated, bits_stored, signed, photometric, presentation_lut_shape,
    presentation_intent, transfer_syntax, manufacturer, vendor, model, device_serial, detector_id, detector_type,
    software_versions, processing_description, processing_code, body_part, acquisition.view, laterality,
    patient_orientation, kvp, mas, mas_source, tube_current_ma, tube_current_source, exposure_time_ms,
    exposure_time_source, exposure_index, target_exposure_index, deviation_index, relative_exposure, sensitivity,
    sid_mm, grid, dap, pixel_spacing_mm, pixel_spacing_column_mm, pixel_spacing_source, magnification, age_years, sex,
    portable, implausible, scanner, acquisition_group
FROM image
JOIN source USING (source_id)
JOIN acquisition USING (image_id)
WHERE present = 1;

-- One row an image, labeler and label; what was said of an image itself goes before what was said of its study.
CREATE VIEW label_full AS
SELECT image_id, labeler, name, value FROM label WHERE image_id IS NOT NULL
UNION ALL
SELECT image.image_id, label.labeler, label.name, label.value
FROM label
JOIN image ON image.study_key = label.study_key
WHERE NOT EXISTS (
    SELECT 1 FROM label AS own
    WHERE own.name = label.name AND own.labeler = label.labeler AND own.image_id = image.image_id
)
UNION ALL
SELECT acquisition.image_id, label.labeler, label.name, label.value
FROM label
JOIN acquisition ON acquisition.study_instance_uid = label.study_key
JOIN image ON image.image_id = acquisition.image_id AND image.study_key IS NULL
WHERE NOT EXISTS (
    SELECT 1 FROM label AS own
    WHERE own.name = label.name AND own.labeler = label.labeler AND own.image_id = acquisition.image_id
);
