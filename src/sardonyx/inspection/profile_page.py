"""A profile as one web page: everything is in the file, and the names of the model's nodes are inserted as text only."""

from __future__ import annotations

import json
from pathlib import Path

from sardonyx.inspection.machine_peak import Peak
from sardonyx.inspection.profile import Profile, as_record

TEMPLATE = Path(__file__).with_name("profile_page.html")
PLACE = "/*PROFILE*/null"


def page_of(profile: Profile, peak: Peak | None) -> str:
    """Return the page with the profile in it. peak: None if it is not known; then there are no rates."""
    # A "<" could end the script: JSON may write it as an escape.
    data = json.dumps(as_record(profile, peak)).replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")
    return TEMPLATE.read_text(encoding="utf-8").replace(PLACE, data)
