mod models;
mod params;
mod weights;
