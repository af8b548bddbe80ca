"""The record of PR 700 as a clean reference: train, export, evaluate, write the record folder."""
