-- MIMIC-CXR and MIMIC-IV beside the images of a catalogue. Tables that take the name of a file hold it as it is; those
-- below are there from the beginning, empty, so that the views can be asked before everything was imported.
--
-- Dates are shifted, each patient's by an amount of its own, the same in both collections. What comes before what, how
-- much later, age, and the admission an image belongs to are therefore right within a patient. Years, seasons,
-- weekdays, and dates of one patient beside those of another mean nothing.

CREATE TABLE IF NOT EXISTS mimic_cxr_metadata (
    dicom_id TEXT, subject_id INTEGER, study_id INTEGER, PerformedProcedureStepDescription TEXT, ViewPosition TEXT,
    Rows INTEGER, Columns INTEGER, StudyDate INTEGER, StudyTime REAL, ProcedureCodeSequence_CodeMeaning TEXT,
    ViewCodeSequence_CodeMeaning TEXT, PatientOrientationCodeSequence_CodeMeaning TEXT
);
CREATE TABLE IF NOT EXISTS mimic_cxr_split (dicom_id TEXT, study_id INTEGER, subject_id INTEGER, split TEXT);
CREATE TABLE IF NOT EXISTS mimic_cxr_record_list (subject_id INTEGER, study_id INTEGER, dicom_id TEXT, path TEXT);
CREATE TABLE IF NOT EXISTS hosp_patients (
    subject_id INTEGER, gender TEXT, anchor_age INTEGER, anchor_year INTEGER, anchor_year_group TEXT, dod TEXT
);
CREATE TABLE IF NOT EXISTS hosp_admissions (
    subject_id INTEGER, hadm_id INTEGER, admittime TEXT, dischtime TEXT, edregtime TEXT, admission_type TEXT
);
CREATE TABLE IF NOT EXISTS icu_icustays (
    subject_id INTEGER, hadm_id INTEGER, stay_id INTEGER, intime TEXT, outtime TEXT
);

-- Indexed images that are of MIMIC-CXR, found anew by every import.
CREATE TABLE IF NOT EXISTS mimic_cxr_image (
    image_id   INTEGER PRIMARY KEY REFERENCES image,
    dicom_id   TEXT NOT NULL,        -- the name of the file, without its ending
    study_id   INTEGER NOT NULL,
    subject_id INTEGER NOT NULL
);
CREATE INDEX IF NOT EXISTS mimic_cxr_image_by_dicom_id ON mimic_cxr_image (dicom_id);
CREATE INDEX IF NOT EXISTS mimic_cxr_image_by_study_id ON mimic_cxr_image (study_id);
CREATE INDEX IF NOT EXISTS mimic_cxr_image_by_subject_id ON mimic_cxr_image (subject_id);

-- Every image of MIMIC-CXR with header, metadata and split.
DROP VIEW IF EXISTS patient_image;
DROP VIEW IF EXISTS mimic_image;
CREATE VIEW mimic_image AS
SELECT
    image_full.*,
    linked.dicom_id,
    linked.study_id,
    linked.subject_id,
    coalesce(metadata.ViewPosition, image_full.view) AS view_position,
    CASE
        WHEN coalesce(metadata.ViewPosition, image_full.view) IN ('AP', 'PA') THEN 'frontal'
        WHEN coalesce(metadata.ViewPosition, image_full.view) IN ('LATERAL', 'LL') THEN 'lateral'
        ELSE 'other'
    END AS view_class,
    metadata.PerformedProcedureStepDescription AS procedure,
    -- A portable unit or a fixed one, where procedure and view tell.
    CASE
        WHEN coalesce(metadata.ViewPosition, image_full.view) <> 'AP' THEN NULL
        WHEN metadata.PerformedProcedureStepDescription = 'CHEST (PORTABLE AP)' THEN 'portable'
        WHEN metadata.PerformedProcedureStepDescription LIKE 'CHEST (PA AND LAT)%' THEN 'fixed'
    END AS unit,
    metadata.PatientOrientationCodeSequence_CodeMeaning AS orientation,
    CASE WHEN metadata.StudyDate > 0 THEN printf(
        '%04d-%02d-%02d', metadata.StudyDate / 10000, metadata.StudyDate / 100 % 100, metadata.StudyDate % 100
    ) END AS study_date,
    -- A number in the table, without the zeros that it began with: 5910.25 is 00:59:10.
    CASE WHEN metadata.StudyTime >= 0 THEN printf(
        '%02d:%02d:%02d', CAST(metadata.StudyTime AS INTEGER) / 10000, CAST(metadata.StudyTime AS INTEGER) / 100 % 100,
        CAST(metadata.StudyTime AS INTEGER) % 100
    ) END AS study_time,
    split.split
FROM image_full
JOIN mimic_cxr_image AS linked USING (image_id)
LEFT JOIN mimic_cxr_metadata AS metadata
    ON metadata.dicom_id = linked.dicom_id AND metadata.study_id = linked.study_id
    AND metadata.subject_id = linked.subject_id
LEFT JOIN mimic_cxr_split AS split
    ON split.dicom_id = linked.dicom_id AND split.study_id = linked.study_id AND split.subject_id = linked.subject_id;

-- The same with the patient, and the admission and stay in intensive care during which the image was made. An admission
-- begins when the emergency department that led to it registered the patient: many images are made there.
CREATE VIEW patient_image AS
SELECT
    mimic_image.*,
    patient.gender,
    -- In the year of the study. Who was over 89 in the anchor year is 91 there, whatever the age, and here, always.
    CASE
        WHEN patient.anchor_age > 89 THEN patient.anchor_age
        ELSE patient.anchor_age + CAST(substr(mimic_image.study_date, 1, 4) AS INTEGER) - patient.anchor_year
    END AS age,
    patient.anchor_age > 89 AS age_is_capped,
    patient.anchor_year_group,
    admission.hadm_id,
    admission.admission_type,
    admission.admittime,
    admission.dischtime,
    stay.stay_id,
    patient.dod
FROM mimic_image
LEFT JOIN hosp_patients AS patient ON patient.subject_id = mimic_image.subject_id
LEFT JOIN hosp_admissions AS admission ON admission.hadm_id = (
    SELECT during.hadm_id
    FROM hosp_admissions AS during
    WHERE during.subject_id = mimic_image.subject_id
        AND mimic_image.study_date || ' ' || mimic_image.study_time
            BETWEEN min(during.admittime, coalesce(during.edregtime, during.admittime)) AND during.dischtime
    ORDER BY during.admittime DESC
    LIMIT 1
)
LEFT JOIN icu_icustays AS stay ON stay.stay_id = (
    SELECT during.stay_id
    FROM icu_icustays AS during
    WHERE during.subject_id = mimic_image.subject_id
        AND mimic_image.study_date || ' ' || mimic_image.study_time BETWEEN during.intime AND during.outtime
    ORDER BY during.intime DESC
    LIMIT 1
);
