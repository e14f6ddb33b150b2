"""Folder and script have one name, so that `evaluate.load` takes the path of the folder."""
