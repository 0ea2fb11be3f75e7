"""Writes a folder of settings for Gajim: one account, and our plugin."""

import json
import os
import sqlite3
import sys

folder, domain, port, files_port, proxy = sys.argv[1:]
plugin = f"{folder}/plugins/steered"
with open(f"{plugin}/__init__.py", "w", encoding="utf-8") as file:
    # Gajim takes the first name in here and wants it to be the plugin's class.
    file.write("from .steered import Steered\n")
manifest = {
    "name": "Steered",
    "short_name": "steered",
    "version": "1.0.0",
    "description": "does what lines in a file say",
    "authors": ["whoever runs the tests"],
    "homepage": "",
    "config_dialog": False,
    "platforms": ["linux"],
    "requirements": ["gajim>=1.4"],
}
with open(f"{plugin}/plugin-manifest.json", "w", encoding="utf-8") as file:
    json.dump(manifest, file)

settings = {
    "app": {
        "use_keyring": False,
        "remote_control": False,
        "check_for_update": False,
        "show_main_window_on_startup": "never",
        "file_transfers_port": int(files_port),
    },
    "plugins": {"steered": {"active": True}},
    "workspaces": {"files": {"name": "files", "color": "", "avatar_sha": "", "chats": []}},
    "soundevents": {},
    "status_presets": {},
    "proxies": {},
}
account = {
    "active": True,
    "autoconnect": True,
    "name": "juliet",
    "password": "julietpw",
    "savepass": True,
    "hostname": domain,
    "resource": "gajim",
    "use_custom_host": True,
    "custom_host": "127.0.0.1",
    "custom_port": int(port),
    "custom_type": "START TLS",
    "filetransfer_preference": "jingle",
    "use_ft_proxies": True,
    "file_transfer_proxies": proxy,
    "test_ft_proxies_on_startup": False,
}
with sqlite3.connect(f"{folder}/settings.sqlite") as database:
    database.execute("CREATE TABLE settings (name TEXT UNIQUE, settings TEXT)")
    database.execute("CREATE TABLE account_settings (account TEXT UNIQUE, settings TEXT)")
    for name, value in settings.items():
        database.execute("INSERT INTO settings VALUES (?, ?)", (name, json.dumps(value)))
    value = {"account": account, "contact": {}, "group_chat": {}}
    database.execute("INSERT INTO account_settings VALUES (?, ?)", ("juliet", json.dumps(value)))
    database.execute("PRAGMA user_version = 5")
os.chmod(f"{folder}/settings.sqlite", 0o600)
