#!/usr/bin/env python3
"""meta.py TOP: checks META.json against PGXN's Meta Spec 1.0.0 and the control file."""
import json
import os
import re
import sys

SEMVER = re.compile(r"^\d+\.\d+\.\d+([-+.][0-9A-Za-z.-]+)?$")
TERM = re.compile(r"^[^\s/\\\x00-\x1f\x7f]{2,}$")
LICENSES = {"agpl_3", "apache_1_1", "apache_2_0", "artistic_1", "artistic_2", "bsd", "freebsd", "gfdl_1_2",
            "gfdl_1_3", "gpl_1", "gpl_2", "gpl_3", "lgpl_2_1", "lgpl_3_0", "mit", "mozilla_1_0", "mozilla_1_1",
            "openssl", "perl_5", "postgresql", "qpl_1_0", "ssleay", "sun", "zlib", "open_source", "restricted",
            "unrestricted", "unknown"}


def problems(top):
    with open(os.path.join(top, "META.json"), encoding="utf-8") as f:
        meta = json.load(f)
    with open(os.path.join(top, "streamext.control"), encoding="utf-8") as f:
        version = re.search(r"^default_version *= *'(.*)'", f.read(), re.M).group(1)
    for field in ("name", "version", "abstract", "maintainer", "license", "provides", "meta-spec"):
        if not meta.get(field):
            yield "%s is missing" % field
    if not TERM.match(meta["name"]):
        yield "name is no term"
    if not SEMVER.match(meta["version"]):
        yield "version is no semantic version"
    if meta["version"] != version + ".0" and meta["version"] != version:
        yield "version %s, but the control file says %s" % (meta["version"], version)
    if meta["license"] not in LICENSES:
        yield "license is not one that PGXN knows"
    if meta["meta-spec"].get("version") != "1.0.0":
        yield "meta-spec is not 1.0.0"
    if meta.get("release_status", "stable") not in ("stable", "testing", "unstable"):
        yield "release_status is unknown"
    if any(not isinstance(t, str) or not t or len(t) > 255 for t in meta.get("tags", [])):
        yield "tags are no strings"
    for name, what in meta["provides"].items():
        if not SEMVER.match(what.get("version", "")):
            yield "provides.%s.version is no semantic version" % name
        for field in ("file", "docfile"):
            if field == "file" and field not in what:
                yield "provides.%s.file is missing" % name
            if field in what and not os.path.exists(os.path.join(top, what[field])):
                yield "provides.%s.%s: no such file" % (name, field)
    for phase, relations in meta.get("prereqs", {}).items():
        for relation, modules in relations.items():
            for module, needed in modules.items():
                if not re.match(r"^(0|([<>=! ]*\d+\.\d+\.\d+,?)+)$", needed):
                    yield "prereqs.%s.%s.%s is no version" % (phase, relation, module)


found = list(problems(sys.argv[1]))
print("\n".join(found), end="\n" if found else "")
sys.exit(1 if found else 0)
