"""Mirrors of collections that a server gives out over HTTP to users who have signed its data use agreement."""
