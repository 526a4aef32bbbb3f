"""One name a vendor: companies write theirs in many ways, and are bought and renamed while their scanners stay.

The table is knowledge of the field, not of a standard. It joins spellings of one company and names that a product line
had before it was sold (Kodak's and Carestream's, Lorad's and Hologic's), since a scanner did not change with the sign
on the door. Companies with product lines of their own stay apart (Canon's detectors and Canon Medical's, once
Toshiba's; Varian's and Varex').
"""

from __future__ import annotations

import re
from functools import lru_cache

VENDOR_NAMES: dict[str, tuple[str, ...]] = {
    "Acteon": ("acteon", "sopro", "de gotzen"),
    "Adani": ("adani",),
    "Agfa": ("agfa",),
    "Arcoma": ("arcoma",),
    "Canon": ("canon", "canon inc"),
    "Canon Medical": ("canon medical", "canon mec", "toshiba"),
    "Careray": ("careray",),
    "Carestream": ("carestream", "kodak", "eastman kodak", "trophy"),
    "Del Medical": ("del medical",),
    "DMS": ("dms", "dms imaging", "apelem", "dms apelem"),
    "DRGEM": ("drgem", "dr gem"),
    "DRTECH": ("drtech", "dr tech"),
    "DÜRR": ("dürr", "duerr", "durr"),
    "EOS imaging": ("eos imaging", "biospace"),
    "Examion": ("examion",),
    "Fischer": ("fischer imaging", "fischer"),
    "Fujifilm": ("fujifilm", "fuji", "fuji film", "fuji photo film"),
    "GE": ("ge", "gems", "gehc", "ge medical systems", "ge healthcare", "general electric", "lunar", "oec"),
    "Gendex": ("gendex",),
    "Hitachi": ("hitachi",),
    "Hologic": ("hologic", "lorad", "trex medical", "bennett"),
    "IDC": ("imaging dynamics", "idc"),
    "IMS Giotto": (
        "ims",
        "i m s",
        "ims giotto",
        "giotto",
        "gmm giotto",
        "internazionale medico scientifica",
    ),
    "Instrumentarium": ("instrumentarium",),
    "iRay": ("iray",),
    "Italray": ("italray",),
    "KaVo": ("kavo",),
    "Konica Minolta": ("konica minolta", "konica", "konicaminolta", "minolta"),
    "Lodox": ("lodox",),
    "Metaltronica": ("metaltronica",),
    "Mindray": ("mindray", "shenzhen mindray"),
    "Neusoft": ("neusoft",),
    "Oehm und Rehbein": ("oehm und rehbein", "oehm rehbein", "or technology"),
    "Philips": ("philips", "philips medical systems", "philips healthcare"),
    "Planmeca": ("planmeca",),
    "Planmed": ("planmed",),
    "Rayence": ("rayence",),
    "Samsung": ("samsung", "samsungmedison", "medison"),
    "Sectra": ("sectra",),
    "Sedecal": ("sedecal",),
    "Shimadzu": ("shimadzu",),
    "Siemens": ("siemens", "siemens healthineers", "siemens healthcare", "siemens health care"),
    "Sirona": ("sirona", "dentsply sirona"),
    "Soredex": ("soredex",),
    "Stephanix": ("stephanix",),
    "Swissray": ("swissray",),
    "Teledyne DALSA": ("teledyne dalsa", "dalsa"),
    "Thales": ("thales", "trixell"),
    "United Imaging": ("united imaging", "uih", "shanghai united imaging"),
    "Varex": ("varex",),
    "Varian": ("varian",),
    "Vatech": ("vatech",),
    "Vieworks": ("vieworks",),
    "Villa Sistemi Medicali": ("villa sistemi medicali", "villa"),
    "Wandong": ("wandong", "beijing wandong"),
    "Xoran": ("xoran",),
    "Ziehm": ("ziehm",),
}
"""Vendors, each with the first words that stand for it, in lower case, punctuation left out."""

_BY_WORDS = {words: vendor for vendor, names in VENDOR_NAMES.items() for words in names}
_MOST_WORDS = max(words.count(" ") + 1 for words in _BY_WORDS)
_WORD = re.compile(r"[^\W_]+")
# What de-identification leaves in place of a name
_PLACEHOLDERS = {
    "", "anon", "anonymized", "anonymised", "anonymous", "deidentified", "n a", "na", "nan", "none", "not available",
    "null", "redacted", "removed", "undefined", "unknown", "unspecified", "xxx", "xxxx",
}  # fmt: skip
_LEGAL_FORM = re.compile(
    r"[\s,;]+(?:inc|incorporated|corp|corporation|co|company|ltd|limited|llc|gmbh|ag|kg|ab|oy|oyj|a/s|as|nv|n\.v|bv|b\.v|"
    r"s\.?a|s\.?p\.?a|s\.?r\.?l|k\.?k|plc)\.?$",
    re.IGNORECASE,
)


@lru_cache(maxsize=4096)
def normalized_vendor(manufacturer: str | None) -> str | None:
    """Give the vendor that Manufacturer (0008,0070) names.

    Letter case, punctuation and what follows a known name do not matter. A name that is not in :data:`VENDOR_NAMES` is
    kept as it is written, without quotes, needless spaces and legal form.

    Parameters
    ----------
    manufacturer : str or None
        As in the file.

    Returns
    -------
    str or None
        None for an empty name and for the placeholders of de-identification ("ANONYMIZED", "___").

    Examples
    --------
    >>> normalized_vendor("GE MEDICAL SYSTEMS"), normalized_vendor('"GE Healthcare"')
    ('GE', 'GE')
    >>> normalized_vendor("FUJI PHOTO FILM Co., ltd."), normalized_vendor("LORAD, A Hologic Company")
    ('Fujifilm', 'Hologic')
    >>> normalized_vendor(" Acme  Imaging GmbH"), normalized_vendor("ANONYMIZED")
    ('Acme Imaging', None)
    """
    words = _WORD.findall((manufacturer or "").casefold())
    if " ".join(words) in _PLACEHOLDERS:
        return None
    for n_words in range(min(len(words), _MOST_WORDS), 0, -1):
        vendor = _BY_WORDS.get(" ".join(words[:n_words]))
        if vendor is not None:
            return vendor
    tidy = " ".join((manufacturer or "").split()).strip("\"' ,;")
    while (shorter := _LEGAL_FORM.sub("", tidy).rstrip(" ,;&")) not in ("", tidy):
        tidy = shorter
    return tidy
