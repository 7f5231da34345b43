import contextlib
import re
import tomllib
from pathlib import Path

import numpy as np
import pytest
from hu_models import LesionsKnown, LungsKnown, models
from hypothesis import given
from hypothesis import strategies as st

from chestct.errors import ConfigError
from chestct.results import Extra, Profile, ReportOptions
from dicom_out.network.destination import WebDestination
from rales.analysis.settings import settings_of
from rales.config.file import load, parse
from rales.config.peers import destinations_of
from rales.config.sections import Config

_FULL = """
[node]
ae_title = "RALES"
host = "0.0.0.0"
port = 11112
data_dir = "var"

[[destinations]]
name = "pacs"
ae_title = "ORTHANC"
host = "127.0.0.1"
port = 4242

[security]
allowed_calling_ae = ["CT1"]

[completion]
settle_seconds = 2.0
quiet_seconds = 30.0
"""


_WEB = "[[destinations]]\nname='a'\nurl='https://pacs/dicom-web'\n"


def test_a_service_is_a_destination_with_its_files_beside_the_configuration(
    tmp_path: Path,
) -> None:
    file = tmp_path / "rales.toml"
    file.write_text(f"{_WEB}token_file='secrets/token'\nca_file='ca.pem'\n")
    destination = destinations_of(load(file))["a"]
    assert isinstance(destination, WebDestination)
    assert destination.credentials.token_file == tmp_path / "secrets" / "token"
    assert destination.tls is not None
    with pytest.raises(ConfigError, match=re.escape(str(tmp_path / "ca.pem"))):
        destination.tls()
    assert (destination.title, destination.host) == ("https://pacs/dicom-web", "pacs")
    local = parse(tomllib.loads(_WEB.replace("https://pacs", "http://127.0.0.1:8042")))
    assert local.destinations[0].url == "http://127.0.0.1:8042/dicom-web"


def test_the_documented_file_is_read(tmp_path: Path) -> None:
    file = tmp_path / "rales.toml"
    file.write_text(_FULL)
    config = load(file)
    assert config.node.data_dir == tmp_path / "var"
    assert config.destinations[0].ae_title == "ORTHANC"
    assert config.security.allowed_calling_ae == ("CT1",)


def test_an_empty_file_means_the_defaults(tmp_path: Path) -> None:
    file = tmp_path / "rales.toml"
    file.write_text("")
    assert load(file).completion == Config().completion


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[node]\nae_titel = 'X'", "unknown key 'node.ae_titel'; did you mean 'ae_title'?"),
        ("[nodes]\n", "unknown key 'nodes'; did you mean 'node'?"),
        (
            "[[destinations]]\nname='a'\nae_title='A'\nhost='h'\nprot=1\nport=2",
            "unknown key 'destinations.0.prot'; did you mean 'port'?",
        ),
        ("[node]\nport = 70000", "node.port"),
        ("[node]\nae_title = 'MUCH TOO LONG A TITLE'", "1 to 16 characters"),
        ("[node]\nae_title = '  '", "1 to 16 characters"),
        ("[node]\nae_title = 'Röntgen'", "printable ASCII"),
        ("[eligibility]\nkernel_exclude = ['(']", "not a regular expression"),
        ("[node\n", "not valid TOML"),
        ("x = " + "[" * 100_000, "nested too deep"),
        ("[node]\nport = " + "9" * 5000, "not valid TOML"),
        (
            '[node]\ndata_dir = "a\\u0000b"',
            r"node.data_dir: remove the unprintable character '\x00'",
        ),
        (
            '[[destinations]]\nname = "a"\nae_title = "A"\nhost = "h\\u001b[2J"\nport = 1',
            r"destinations.0.host: remove the unprintable character '\x1b'",
        ),
        (
            '[[destinations]]\nname = "a\\nforged"\nae_title = "A"\nhost = "h"\nport = 1',
            r"destinations.0.name: remove the unprintable character '\n'",
        ),
        ('[eligibility]\nkernel_exclude = ["a\\u2028"]', "eligibility.kernel_exclude.0: remove"),
        ("[analysis]\nmild_percent = 30.0", "must be above"),
        (
            2 * "[[destinations]]\nname='a'\nae_title='A'\nhost='h'\nport=1\n",
            "2 entries have the name 'a'",
        ),
        (
            "[[destinations]]\nname='a'\nae_title='A'",
            "'a' needs host and port (or, for a DICOMweb service, url)",
        ),
        (
            "[priors]\ndestination='pacs'",
            "priors.destination: no [[destinations]] has the name 'pacs'",
        ),
        (f"{_WEB}ae_title='A'", "has url, so ae_title does not apply"),
        (f"{_WEB}commitment=true", "has url, so commitment does not apply"),
        (f"{_WEB}user='me'", "needs both user and password_file"),
        (f"{_WEB}user='me'\npassword_file='p'\ntoken_file='t'", "keep one of the two"),
        (
            _WEB.replace("https", "http") + "token_file='t'",
            "send token_file unencrypted: use an https url",
        ),
        (_WEB.replace("https", "http") + "ca_file='c'", "not https"),
        (_WEB.replace("https", "ftp"), "write https://host/path"),
        (_WEB.replace("pacs", "me:word@pacs"), "remove the user and the password from the URL"),
        (
            "[[destinations]]\nname='a'\nae_title='A'\nhost='h'\nport=2\ntoken_file='t'",
            "has token_file, which applies only with url",
        ),
    ],
)
def test_a_mistake_is_named(tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "rales.toml"
    file.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load(file)
    assert said in str(caught.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file"):
        load(tmp_path / "none.toml")


_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)
_NAMES = st.sampled_from(["node", "destinations", "security", "analysis"]) | st.text()


@given(st.dictionaries(_NAMES, _VALUES))
def test_anything_is_a_config_or_a_config_error(raw: dict[str, object]) -> None:
    with contextlib.suppress(ConfigError):
        assert isinstance(parse(raw), Config)


@pytest.mark.parametrize(("said", "used"), [("", 0.7), ("minimum_lesion_ml = 0.0", 0.0)])
def test_the_model_says_what_is_too_small_unless_the_site_does(said: str, used: float) -> None:
    mask = np.zeros((1, 1, 1), dtype=bool)
    known = models(LungsKnown(), LesionsKnown(lesion=mask, minimum_lesion_ml=0.7))
    settings = settings_of(parse(tomllib.loads(f"[analysis]\nhigh_opacity_hu = -250.0\n{said}")))
    method = settings.method_with(known)
    assert method.minimum_lesion_ml == used
    assert method.high_opacity_hu == -250


def test_another_smallest_lesion_is_another_analysis() -> None:
    digests = {
        settings_of(parse(tomllib.loads(f"[analysis]\n{said}"))).digest
        for said in ("", "minimum_lesion_ml = 0.1", "minimum_lesion_ml = 0.2")
    }
    assert len(digests) == 3


def test_what_is_told_of_single_lesions_is_another_analysis_and_the_kind_of_seg_is_not() -> None:
    label_map = """
[[destinations]]
name = "new"
ae_title = "NEW"
host = "127.0.0.1"
port = 104
segmentation = "labelmap"
compress = true
"""
    plain, two, segmented, other = (
        settings_of(parse(tomllib.loads(said)))
        for said in (
            "",
            "[analysis]\nmeasured_lesions = 2",
            "[analysis]\nlesion_segments = true",
            label_map,
        )
    )
    assert len({plain.digest, two.digest, segmented.digest}) == 3
    assert two.options == ReportOptions(measured_lesions=2)
    assert segmented.options == ReportOptions(lesion_segments=True)
    assert other.digest == plain.digest
    assert (plain.profiles, other.profiles) == ((Profile.OHIF,), (Profile.OHIF, Profile.LABELMAP))
    (destination,) = destinations_of(parse(tomllib.loads(label_map))).values()
    assert (destination.profile, destination.compress) == (Profile.LABELMAP, True)


def test_an_unknown_kind_of_seg_is_named() -> None:
    said = """
[[destinations]]
name = "pacs"
ae_title = "PACS"
host = "127.0.0.1"
port = 104
segmentation = "fractional"
"""
    with pytest.raises(ConfigError, match=r"segmentation: Input should be 'binary' or 'labelmap'"):
        parse(tomllib.loads(said))


_TO_PACS = """
[[destinations]]
name = "pacs"
ae_title = "PACS"
host = "127.0.0.1"
port = 104
"""


def test_a_profile_adds_objects_and_changes_no_result() -> None:
    profiles = ("ohif", "slicer", "weasis", "plain")
    configs = {
        name: parse(tomllib.loads(f'{_TO_PACS}profile = "{name}"\nextras = ["key-objects"]'))
        for name in profiles
    }
    settings = {name: settings_of(config) for name, config in configs.items()}
    assert len({setting.digest for setting in settings.values()}) == 1
    for name in profiles:
        assert settings[name].profiles == tuple(dict.fromkeys((Profile.OHIF, Profile(name))))
        (destination,) = destinations_of(configs[name]).values()
        assert destination.profile is Profile(name)
        page = (Extra.SECONDARY_CAPTURE,) if name == "plain" else ()
        assert destination.extras == (*page, Extra.KEY_OBJECTS)
        assert settings[name].extras == (*page, Extra.KEY_OBJECTS)


@pytest.mark.parametrize(
    ("said", "remedy"),
    [
        ('profile = "osirix"', r"profile: Input should be 'ohif', 'slicer', 'weasis' or 'plain'"),
        (
            'profile = "slicer"\nsegmentation = "labelmap"',
            r"'pacs' has segmentation = \"labelmap\" and profile = \"slicer\".*remove one",
        ),
        (
            'profile = "plain"\nfallback = ["key-objects"]',
            r"'pacs' has fallback, but profile = \"plain\" sends no SEG.*move its names to extras",
        ),
        (
            'profile = "slicer"\n[priors]\ndestination = "pacs"',
            r"priors.destination: .*'pacs'.*name a destination with another profile",
        ),
    ],
)
def test_a_profile_that_cannot_be_is_refused_with_the_remedy(said: str, remedy: str) -> None:
    with pytest.raises(ConfigError, match=remedy):
        parse(tomllib.loads(_TO_PACS + said))


_NAMED = '[node]\nae_title = "RALES"\n# für München\ndata_dir = "münchen"\n'


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_encodings_that_name_themselves_are_read(encoding: str, tmp_path: Path) -> None:
    file = tmp_path / "rales.toml"
    file.write_bytes(_NAMED.replace("\n", "\r\n").encode(encoding))
    assert load(file).node.data_dir == tmp_path / "münchen"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (_NAMED.encode("latin-1"), "not UTF-8: line 3 has the byte 0xFC, which is 'ü'"),
        (b"\xef\xbb\xbf" + _NAMED.encode("latin-1"), "line 3 has the byte 0xFC"),
        (_NAMED.encode("utf-16-le"), "UTF-16 without a byte order mark"),
        (_NAMED.encode("utf-16")[:-1], "damaged UTF-16"),
    ],
)
def test_other_encodings_are_named_with_the_line(content: bytes, said: str, tmp_path: Path) -> None:
    file = tmp_path / "rales.toml"
    file.write_bytes(content)
    with pytest.raises(ConfigError, match=said) as caught:
        load(file)
    assert "save it as UTF-8" in str(caught.value)
    assert str(file) in str(caught.value)
